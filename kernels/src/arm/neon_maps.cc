// What is done to whole maps between convolutions: gates of squeeze-excite, shortcuts, sums.
//
// A byte of `in << 7` times a Q15 multiplier is SSHLL and SQRDMULH; SQSHRN shifts, saturates and
// narrows at once, with a shift that is part of the instruction: 1 to 8, so that 0 is SQXTN.
#include "neon_armv7.h"
#include "neon_kernels.h"

namespace effnet_edge {
namespace {

template <int kShift>
EFFNET_EDGE_INLINE int8x16_t narrowed(int16x8_t low, int16x8_t high) {
    if constexpr (kShift == 0) {
        return vqmovn_high_s16(vqmovn_s16(low), high);
    } else {
        return vqshrn_high_n_s16(vqshrn_n_s16(low, kShift), high, kShift);
    }
}

EFFNET_EDGE_INLINE int8x16_t load(const uint8_t* from) {
    return vreinterpretq_s8_u8(vld1q_u8(from));
}

EFFNET_EDGE_INLINE void store(uint8_t* to, int8x16_t bytes) {
    vst1q_u8(to, vreinterpretq_u8_s8(bytes));
}

EFFNET_EDGE_INLINE int16x8_t low_times(int8x16_t a, int16x8_t multiplier) {
    return vqrdmulhq_s16(vshll_n_s8(vget_low_s8(a), 7), multiplier);
}

EFFNET_EDGE_INLINE int16x8_t high_times(int8x16_t a, int16x8_t multiplier) {
    return vqrdmulhq_s16(vshll_high_n_s8(a, 7), multiplier);
}

template <int kShift>
void gate(const GateRun& run) {
    const size_t stride = static_cast<size_t>(run.channels), pixels = run.pixels;
    for (size_t c = 0; c < stride; c += 16) {
        const int16x8_t multiplier0 = vld1q_s16(run.multiplier + c);
        const int16x8_t multiplier1 = vld1q_s16(run.multiplier + c + 8);
        const int16x8_t offset0 = vld1q_s16(run.offset + c);
        const int16x8_t offset1 = vld1q_s16(run.offset + c + 8);
        const uint8_t* in = run.in + c;
        uint8_t* out = run.out + c;
        const auto gated = [&](int8x16_t a) EFFNET_EDGE_INLINE_LAMBDA {
            return narrowed<kShift>(vqaddq_s16(low_times(a, multiplier0), offset0),
                                    vqaddq_s16(high_times(a, multiplier1), offset1));
        };
        size_t left = pixels;
        for (; left >= 4; left -= 4) {
            int8x16_t a[4];
            for (int p = 0; p < 4; ++p, in += stride) a[p] = load(in);
            for (int p = 0; p < 4; ++p) a[p] = gated(a[p]);
            for (int p = 0; p < 4; ++p, out += stride) store(out, a[p]);
        }
        for (; left > 0; --left, in += stride, out += stride) store(out, gated(load(in)));
    }
}

template <int kShift>
EFFNET_EDGE_INLINE int8x16_t added(int8x16_t a, int8x16_t b, const AddRun& run) {
    const int16x8_t multiplier = vdupq_n_s16(run.multiplier);
    const int16x8_t shortcut_multiplier = vdupq_n_s16(run.shortcut_multiplier);
    const int16x8_t offset = vdupq_n_s16(run.offset);
    const int16x8_t low = vqaddq_s16(low_times(a, multiplier), low_times(b, shortcut_multiplier));
    const int16x8_t high =
        vqaddq_s16(high_times(a, multiplier), high_times(b, shortcut_multiplier));
    return narrowed<kShift>(vqaddq_s16(low, offset), vqaddq_s16(high, offset));
}

template <int kShift>
void add(const AddRun& run) {
    size_t i = 0;
    for (; i + 32 <= run.bytes; i += 32) {
        const int8x16_t first = added<kShift>(load(run.inout + i), load(run.shortcut + i), run);
        const int8x16_t second =
            added<kShift>(load(run.inout + i + 16), load(run.shortcut + i + 16), run);
        store(run.inout + i, first);
        store(run.inout + i + 16, second);
    }
    for (; i + 16 <= run.bytes; i += 16) {
        store(run.inout + i, added<kShift>(load(run.inout + i), load(run.shortcut + i), run));
    }
    if (i == run.bytes) return;
    uint8_t a[16] = {}, b[16] = {};
    for (size_t j = i; j < run.bytes; ++j) {
        a[j - i] = run.inout[j];
        b[j - i] = run.shortcut[j];
    }
    store(a, added<kShift>(load(a), load(b), run));
    for (size_t j = i; j < run.bytes; ++j) run.inout[j] = a[j - i];
}

EFFNET_EDGE_INLINE void add_to(int32_t* sums, int16x8_t terms) {
    vst1q_s32(sums, vaddw_s16(vld1q_s32(sums), vget_low_s16(terms)));
    vst1q_s32(sums + 4, vaddw_high_s16(vld1q_s32(sums + 4), terms));
}

}  // namespace

void neon_gate(const GateRun& run) {
    static constexpr void (*kGates[])(const GateRun&) = {gate<0>, gate<1>, gate<2>, gate<3>,
                                                         gate<4>, gate<5>, gate<6>};
    kGates[run.shift](run);
}

void neon_add(const AddRun& run) {
    static constexpr void (*kAdds[])(const AddRun&) = {add<0>, add<1>, add<2>, add<3>,
                                                       add<4>, add<5>, add<6>};
    kAdds[run.shift](run);
}

void neon_sum(const SumRun& run) {
    int c = 0;
    for (; c + 16 <= run.channels; c += 16) {
        const uint8_t* in = run.in + c;
        for (size_t left = run.pixels; left > 0;) {
            // 256 bytes of -128 to 127 fit 16 bits.
            const size_t count = left < 256 ? left : 256;
            int16x8_t low = vdupq_n_s16(0), high = vdupq_n_s16(0);
            for (size_t p = 0; p < count; ++p, in += run.in_stride) {
                const int8x16_t a = load(in);
                low = vaddw_s8(low, vget_low_s8(a));
                high = vaddw_high_s8(high, a);
            }
            add_to(run.sums + c, low);
            add_to(run.sums + c + 8, high);
            left -= count;
        }
    }
    for (; c < run.channels; ++c) {
        for (size_t p = 0; p < run.pixels; ++p) {
            run.sums[c] += static_cast<int8_t>(run.in[p * run.in_stride + c]);
        }
    }
}

}  // namespace effnet_edge
