// The epilogue apart from the products: one loop for each combination of shifts.
#include "dot_epilogue.h"
#include "dot_kernels.h"

namespace effnet_edge {
namespace {

template <bool kProduct, int kShift, int kLookup>
void finish(const FinishRun& given, const DotEpilogue& epilogue) {
    const FinishRun run = given;  // stores of bytes can't change a copy
    const uint8x16x2_t base = loaded_table(epilogue.base), slope = loaded_table(epilogue.slope);
    const uint8x16x2_t offset = loaded_table(epilogue.offset);
    const uint8x16x2_t correction = loaded_table(epilogue.correction);
    const uint8x16_t correction_first = vld1q_dup_u8(&epilogue.correction_first);
    const int16x8_t argument_zero_point = vdupq_n_s16(epilogue.argument_zero_point);
    const int16x8_t zero_point = vdupq_n_s16(epilogue.zero_point);
    const Factors<kShift> factors(run.constants->multiplier, run.high_channel);
    const Factors<kShift> argument(run.constants->argument, run.high_channel);
    int16x8_t total_low = vld1q_s16(run.totals), total_high = vld1q_s16(run.totals + 8);
    uint8_t *low = run.low, *high = run.high;
    const int32_t* sums = run.sums;
    const auto some = [&](auto count) EFFNET_EDGE_INLINED {
        constexpr int kCount = decltype(count)::value;
        int32x4_t given_sums[4 * kCount];
        unrolled<4 * kCount>([&](auto i) EFFNET_EDGE_INLINED {
            given_sums[i.value] = vld1q_s32(sums + 4 * i.value);
        });
        sums += 16 * kCount;
        Values<2 * kCount> values;
        requantize_by<kProduct>(given_sums, factors, argument, values);
        uint8x16_t bytes[kCount];
        unrolled<kCount>([&](auto index) EFFNET_EDGE_INLINED {
            constexpr int i = 2 * decltype(index)::value;
            bytes[index.value] = activated<kProduct, kLookup>(
                values.value[i], values.value[i + 1], values.argument[i], values.argument[i + 1],
                base, slope, offset, correction, correction_first, argument_zero_point, zero_point);
        });
        unrolled<kCount>([&](auto index) EFFNET_EDGE_INLINED {
            const uint8x16_t sixteen = bytes[index.value];
            vst1_u8(low, vget_low_u8(sixteen));
            // vst1_u8 of the upper half would move it to a lower one first.
            vst1q_lane_u64(reinterpret_cast<uint64_t*>(high), vreinterpretq_u64_u8(sixteen), 1);
            total_low = vaddw_s8(total_low, vget_low_s8(vreinterpretq_s8_u8(sixteen)));
            total_high = vaddw_high_s8(total_high, vreinterpretq_s8_u8(sixteen));
            low += run.stride;
            high += run.stride;
        });
    };
    // Two at a time keep both vector pipes busy. A product has more to do by itself.
    constexpr int kTogether = kProduct ? 1 : 2;
    int left = run.vectors;
    for (; left >= kTogether; left -= kTogether) some(Index<kTogether>{});
    if (left > 0) some(Index<1>{});
    vst1q_s16(run.totals, total_low);
    vst1q_s16(run.totals + 8, total_high);
}

template <bool kProduct, int kShift>
Finish finish_of_lookup(int lookup) {
    switch (lookup) {
        case 3:
            return finish<kProduct, kShift, 3>;
        case 4:
            return finish<kProduct, kShift, 4>;
        case 5:
            return finish<kProduct, kShift, 5>;
        case 6:
            return finish<kProduct, kShift, 6>;
        case 11:
            return finish < kProduct, kShift, kProduct ? 3 : 11 > ;
        case 12:
            return finish < kProduct, kShift, kProduct ? 4 : 12 > ;
        case 13:
            return finish < kProduct, kShift, kProduct ? 5 : 13 > ;
        case 14:
            return finish < kProduct, kShift, kProduct ? 6 : 14 > ;
        default:
            return finish<kProduct, kShift, 0>;
    }
}

template <bool kProduct>
Finish finish_of_shift(int shift, int lookup) {
    switch (shift) {
        case 1:
            return finish_of_lookup<kProduct, 1>(lookup);
        case 2:
            return finish_of_lookup<kProduct, 2>(lookup);
        case 3:
            return finish_of_lookup<kProduct, 3>(lookup);
        case 4:
            return finish_of_lookup<kProduct, 4>(lookup);
        case 5:
            return finish_of_lookup<kProduct, 5>(lookup);
        case 6:
            return finish_of_lookup<kProduct, 6>(lookup);
        case 7:
            return finish_of_lookup<kProduct, 7>(lookup);
        case 8:
            return finish_of_lookup<kProduct, 8>(lookup);
        case 9:
            return finish_of_lookup<kProduct, 9>(lookup);
        case 10:
            return finish_of_lookup<kProduct, 10>(lookup);
        case 11:
            return finish_of_lookup<kProduct, 11>(lookup);
        case 12:
            return finish_of_lookup<kProduct, 12>(lookup);
        case 13:
            return finish_of_lookup<kProduct, 13>(lookup);
        case 14:
            return finish_of_lookup<kProduct, 14>(lookup);
        case 15:
            return finish_of_lookup<kProduct, 15>(lookup);
        default:
            return finish_of_lookup<kProduct, 0>(lookup);
    }
}

}  // namespace

Finish dot_finish(const DotEpilogue& epilogue) {
    return epilogue.product ? finish_of_shift<true>(epilogue.shift, epilogue.lookup)
                            : finish_of_shift<false>(epilogue.shift, epilogue.lookup);
}

}  // namespace effnet_edge
