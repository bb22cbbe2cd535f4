// Gating, addition and channel sums. Nothing here is a dot product; what ARMv8.2 adds is SQRDMLAH.
#include <arm_neon.h>

#include "dot_epilogue.h"
#include "dot_kernels.h"

namespace effnet_edge {
namespace {

// Sixteen stored bytes as 16-bit values times 128: the first operand of `multiply_high16`.
struct Widened {
    EFFNET_EDGE_INLINE explicit Widened(const uint8_t* bytes) {
        const int8x16_t all = vld1q_s8(reinterpret_cast<const int8_t*>(bytes));
        low = vshll_n_s8(vget_low_s8(all), 7);
        high = vshll_high_n_s8(all, 7);
    }
    int16x8_t low, high;
};

template <int kShift>
EFFNET_EDGE_INLINE uint8x16_t shifted_bytes(int16x8_t low, int16x8_t high) {
    int8x16_t result;
    if constexpr (kShift == 0) {
        asm("sqxtn %0.8b, %1.8h\n\tsqxtn2 %0.16b, %2.8h" : "=&w"(result) : "w"(low), "w"(high));
    } else {
        asm("sqshrn %0.8b, %1.8h, %3\n\tsqshrn2 %0.16b, %2.8h, %3"
            : "=&w"(result)
            : "w"(low), "w"(high), "i"(kShift));
    }
    return vreinterpretq_u8_s8(result);
}

template <int kShift>
void gate(const GateRun& run) {
    // Local, as any store of bytes might change `run`.
    const size_t channels = run.channels, end = run.pixels * channels;
    for (size_t c = 0; c < channels; c += 16) {
        const int16x8_t multiplier_low = vld1q_s16(run.multiplier + c);
        const int16x8_t multiplier_high = vld1q_s16(run.multiplier + c + 8);
        const uint8_t* in = run.in;
        uint8_t* out = run.out;
        const int16_t* offset = run.offset + c;
        const auto sixteen = [&](const Widened& x) EFFNET_EDGE_INLINED {
            // Offsets are added to, and so lost: loading them anew is free, copying them isn't. So
            // the compiler must not know that they are the same.
            asm("" : "+r"(offset));
            return shifted_bytes<kShift>(
                vqrdmlahq_s16(vld1q_s16(offset), x.low, multiplier_low),
                vqrdmlahq_s16(vld1q_s16(offset + 8), x.high, multiplier_high));
        };
        size_t i = c;
        for (; i + channels < end; i += 2 * channels) {
            const Widened first(in + i), second(in + i + channels);
            const uint8x16_t bytes[2] = {sixteen(first), sixteen(second)};
            vst1q_u8(out + i, bytes[0]);
            vst1q_u8(out + i + channels, bytes[1]);
        }
        if (i < end) vst1q_u8(out + i, sixteen(Widened(in + i)));
    }
}

template <int kShift>
void add(const AddRun& run) {
    const int16x8_t multiplier = vdupq_n_s16(run.multiplier);
    const int16x8_t shortcut_multiplier = vdupq_n_s16(run.shortcut_multiplier);
    const int16x8_t offset = vdupq_n_s16(run.offset);
    const auto sixteen = [&](const uint8_t* inout, const uint8_t* shortcut) {
        const Widened a(inout), b(shortcut);
        const int16x8_t low =
            vqrdmlahq_s16(vqrdmulhq_s16(a.low, multiplier), b.low, shortcut_multiplier);
        const int16x8_t high =
            vqrdmlahq_s16(vqrdmulhq_s16(a.high, multiplier), b.high, shortcut_multiplier);
        return shifted_bytes<kShift>(vqaddq_s16(low, offset), vqaddq_s16(high, offset));
    };
    size_t i = 0;
    for (; i + 16 <= run.bytes; i += 16) {
        vst1q_u8(run.inout + i, sixteen(run.inout + i, run.shortcut + i));
    }
    if (i < run.bytes) {
        uint8_t inout[16] = {}, shortcut[16] = {};
        std::memcpy(inout, run.inout + i, run.bytes - i);
        std::memcpy(shortcut, run.shortcut + i, run.bytes - i);
        vst1q_u8(inout, sixteen(inout, shortcut));
        std::memcpy(run.inout + i, inout, run.bytes - i);
    }
}

// Sums of 16 bits hold 256 bytes.
constexpr size_t kPixelsIn16Bits = 256;

EFFNET_EDGE_INLINE void add_to(int32_t* sums, int16x8_t values) {
    vst1q_s32(sums, vaddw_s16(vld1q_s32(sums), vget_low_s16(values)));
    vst1q_s32(sums + 4, vaddw_high_s16(vld1q_s32(sums + 4), values));
}

}  // namespace

void dot_gate(const GateRun& run) {
    switch (run.shift) {
        case 0:
            return gate<0>(run);
        case 1:
            return gate<1>(run);
        case 2:
            return gate<2>(run);
        case 3:
            return gate<3>(run);
        case 4:
            return gate<4>(run);
        case 5:
            return gate<5>(run);
        case 6:
            return gate<6>(run);
    }
}

void dot_add(const AddRun& run) {
    switch (run.shift) {
        case 0:
            return add<0>(run);
        case 1:
            return add<1>(run);
        case 2:
            return add<2>(run);
        case 3:
            return add<3>(run);
        case 4:
            return add<4>(run);
        case 5:
            return add<5>(run);
        case 6:
            return add<6>(run);
    }
}

void dot_sum(const SumRun& run) {
    for (size_t first = 0; first < run.pixels; first += kPixelsIn16Bits) {
        const size_t count =
            run.pixels - first < kPixelsIn16Bits ? run.pixels - first : kPixelsIn16Bits;
        const int8_t* in = reinterpret_cast<const int8_t*>(run.in) + first * run.in_stride;
        int c = 0;
        for (; c + 16 <= run.channels; c += 16) {
            int16x8_t low = vdupq_n_s16(0), high = low;
            for (size_t p = 0; p < count; ++p) {
                const int8x16_t bytes = vld1q_s8(in + p * run.in_stride + c);
                low = vaddw_s8(low, vget_low_s8(bytes));
                high = vaddw_high_s8(high, bytes);
            }
            add_to(run.sums + c, low);
            add_to(run.sums + c + 8, high);
        }
        for (; c < run.channels; ++c) {
            for (size_t p = 0; p < count; ++p) run.sums[c] += in[p * run.in_stride + c];
        }
    }
}

}  // namespace effnet_edge
