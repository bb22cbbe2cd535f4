// The epilogue apart from the products: one loop for each combination of shifts.
#include "dot_epilogue.h"
#include "dot_kernels.h"

namespace effnet_edge {
namespace {

template <bool kProduct, int kShift, int kLookup>
void finish(const FinishRun& given, const DotEpilogue& epilogue) {
    const FinishRun run = given;
    const DotConstants& constants = *run.constants;
    uint8_t *low = run.low, *high = run.high;
    int16x8_t total_low = vld1q_s16(run.totals), total_high = vld1q_s16(run.totals + 8);
    const int32_t* sums = run.sums;
    for (int v = 0; v < run.vectors; ++v, sums += 16, low += run.stride, high += run.stride) {
        const int32x4_t four[4] = {vld1q_s32(sums), vld1q_s32(sums + 4), vld1q_s32(sums + 8),
                                   vld1q_s32(sums + 12)};
        Values<2> values;
        requantize_by<kProduct, kShift>(four, constants, run.high_channel, values);
        const auto put = [&](const uint8x16_t (&bytes)[1]) EFFNET_EDGE_INLINED {
            vst1_u8(low, vget_low_u8(bytes[0]));
            vst1_u8(high, vget_high_u8(bytes[0]));
            total_low = vaddw_s8(total_low, vget_low_s8(vreinterpretq_s8_u8(bytes[0])));
            total_high = vaddw_high_s8(total_high, vreinterpretq_s8_u8(bytes[0]));
        };
        activate_by<kProduct, kLookup>(values, epilogue, put);
    }
    vst1q_s16(run.totals, total_low);
    vst1q_s16(run.totals + 8, total_high);
}

template <bool kProduct, int kShift>
Finish finish_of_lookup(int lookup) {
    switch (lookup) {
        case 3: return finish<kProduct, kShift, 3>;
        case 4: return finish<kProduct, kShift, 4>;
        case 5: return finish<kProduct, kShift, 5>;
        case 6: return finish<kProduct, kShift, 6>;
        case 11: return finish<kProduct, kShift, kProduct ? 3 : 11>;
        case 12: return finish<kProduct, kShift, kProduct ? 4 : 12>;
        case 13: return finish<kProduct, kShift, kProduct ? 5 : 13>;
        case 14: return finish<kProduct, kShift, kProduct ? 6 : 14>;
        default: return finish<kProduct, kShift, 0>;
    }
}

template <bool kProduct>
Finish finish_of_shift(int shift, int lookup) {
    switch (shift) {
        case 1: return finish_of_lookup<kProduct, 1>(lookup);
        case 2: return finish_of_lookup<kProduct, 2>(lookup);
        case 3: return finish_of_lookup<kProduct, 3>(lookup);
        case 4: return finish_of_lookup<kProduct, 4>(lookup);
        case 5: return finish_of_lookup<kProduct, 5>(lookup);
        case 6: return finish_of_lookup<kProduct, 6>(lookup);
        case 7: return finish_of_lookup<kProduct, 7>(lookup);
        case 8: return finish_of_lookup<kProduct, 8>(lookup);
        case 9: return finish_of_lookup<kProduct, 9>(lookup);
        case 10: return finish_of_lookup<kProduct, 10>(lookup);
        case 11: return finish_of_lookup<kProduct, 11>(lookup);
        case 12: return finish_of_lookup<kProduct, 12>(lookup);
        case 13: return finish_of_lookup<kProduct, 13>(lookup);
        case 14: return finish_of_lookup<kProduct, 14>(lookup);
        case 15: return finish_of_lookup<kProduct, 15>(lookup);
        default: return finish_of_lookup<kProduct, 0>(lookup);
    }
}

}  // namespace

Finish dot_finish(const DotEpilogue& epilogue) {
    return epilogue.product ? finish_of_shift<true>(epilogue.shift, epilogue.lookup)
                            : finish_of_shift<false>(epilogue.shift, epilogue.lookup);
}

}  // namespace effnet_edge
