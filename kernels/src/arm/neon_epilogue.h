// From int32 sums of 16 lanes to stored bytes.
//
// Where NEON's shifts also narrow, the count is part of the instruction: kernels are templates over
// the counts that networks have, so that a tile's sums become bytes without a branch. The other
// counts share code that shifts by a register, which costs twice as much.
#pragma once

#include <cstring>

#include "neon_armv7.h"
#include "neon_kernels.h"

namespace effnet_edge {
namespace {

// Requantizer::shift of kNarrow, 1 to 15; networks need those from kFirstShift to kLastShift.
constexpr int kWideShift = 0;
constexpr int kAnyShift = -1;
constexpr int kFirstShift = 4;
constexpr int kLastShift = 11;

// Activation::slope_shift that the SiLU of a usual range gets.
constexpr int kUsualSlopeShift = 4;

// What an activation makes of a requantized value. A table without corrections has zeros there.
enum class Form : int {
    kByte,
    kLookup,     // kInterpolated with kUsualSlopeShift
    kAnyLookup,  // kInterpolated with any other
    kProduct,
};
constexpr int kForms = 4;

// What an epilogue needs to know of a stage.
struct Epilogue {
    uint8_t base[32];
    uint8_t slope[32];
    uint8_t correction[32];
    uint8_t correction_first[16];
    int8_t minus_slope_shift[16];
    int32_t shift;  // kWideShift for kWide
    Form form;
    int16_t argument_zero_point;
    int16_t zero_point;  // of a product

    explicit Epilogue(const Stage& stage) : base(), slope(), correction() {
        const Activation& activation = stage.activation;
        shift = stage.requantizer.kind == Requantization::kNarrow ? stage.requantizer.shift
                                                                  : kWideShift;
        const bool usual = activation.slope_shift == kUsualSlopeShift;
        form = activation.kind == Lookup::kNone ? Form::kByte
               : activation.product             ? Form::kProduct
               : usual                          ? Form::kLookup
                                                : Form::kAnyLookup;
        if (form != Form::kByte) {
            std::memcpy(base, activation.base.data(), sizeof base);
            std::memcpy(slope, activation.slope.data(), sizeof slope);
        }
        if (!activation.correction.empty()) {
            std::memcpy(correction, activation.correction.data(), sizeof correction);
        }
        std::memset(correction_first, activation.correction_first, sizeof correction_first);
        std::memset(minus_slope_shift, -activation.slope_shift, sizeof minus_slope_shift);
        argument_zero_point = static_cast<int16_t>(activation.argument_zero_point);
        zero_point = static_cast<int16_t>(activation.zero_point);
    }
};

// Multipliers of 16 lanes: Q15 for kNarrow, Q31 for kWide.
struct Multipliers {
    int16_t narrow[16];
    int32_t wide[16];
};

// Constants of 16 lanes, zeros where the stage has no more channels.
struct alignas(16) Lanes {
    int32_t bias[16];
    Multipliers value;
    Multipliers argument;  // of a product

    // Lane i is channel `first + i % period`: with a period of 8 two pixels share a register.
    Lanes(const Stage& stage, int first, int period) : bias(), value(), argument() {
        const bool narrow = stage.requantizer.kind == Requantization::kNarrow;
        for (int lane = 0; lane < 16; ++lane) {
            const int c = first + lane % period;
            if (c >= stage.channels) continue;
            bias[lane] = stage.requantizer.bias[c];
            const auto set = [&](const std::vector<int32_t>& from, Multipliers& to) {
                if (narrow)
                    to.narrow[lane] = static_cast<int16_t>(from[c]);
                else
                    to.wide[lane] = from[c];
            };
            set(stage.requantizer.multiplier, value);
            if (stage.activation.product) set(stage.activation.argument_multiplier, argument);
        }
    }
};

// The sums of 16 lanes, as narrow as they are before they are multiplied.
template <int kShift>
struct Narrowed {
    Narrowed() = default;
    EFFNET_EDGE_INLINE Narrowed(const int32x4_t (&sums)[4], const Epilogue&) {
        for (int h = 0; h < 2; ++h) {
            const int16x4_t low = vqrshrn_n_s32(sums[2 * h], kShift);
            halves[h] = vqrshrn_high_n_s32(low, sums[2 * h + 1], kShift);
        }
    }
    EFFNET_EDGE_INLINE int16x8_t times(const Multipliers& by, int half) const {
        return vqrdmulhq_s16(halves[half], vld1q_s16(by.narrow + 8 * half));
    }
    int16x8_t halves[2];
};

template <>
struct Narrowed<kWideShift> {
    Narrowed() = default;
    EFFNET_EDGE_INLINE Narrowed(const int32x4_t (&sums)[4], const Epilogue&) {
        for (int q = 0; q < 4; ++q) quarters[q] = sums[q];
    }
    EFFNET_EDGE_INLINE int16x8_t times(const Multipliers& by, int half) const {
        const int32_t* multiplier = by.wide + 8 * half;
        const int32x4_t low = vqrdmulhq_s32(quarters[2 * half], vld1q_s32(multiplier));
        const int32x4_t high = vqrdmulhq_s32(quarters[2 * half + 1], vld1q_s32(multiplier + 4));
        return vqmovn_high_s32(vqmovn_s32(low), high);
    }
    int32x4_t quarters[4];
};

template <>
struct Narrowed<kAnyShift> {
    Narrowed() = default;
    EFFNET_EDGE_INLINE Narrowed(const int32x4_t (&sums)[4], const Epilogue& epilogue)
        : is_wide(epilogue.shift == kWideShift), wide(sums, epilogue) {
        const int32x4_t right = vdupq_n_s32(-epilogue.shift);
        for (int h = 0; h < 2; ++h) {
            const int16x4_t low = vqmovn_s32(vrshlq_s32(sums[2 * h], right));
            narrow.halves[h] = vqmovn_high_s32(low, vrshlq_s32(sums[2 * h + 1], right));
        }
    }
    EFFNET_EDGE_INLINE int16x8_t times(const Multipliers& by, int half) const {
        return is_wide ? wide.times(by, half) : narrow.times(by, half);
    }
    bool is_wide;
    Narrowed<kWideShift> wide;
    Narrowed<1> narrow;
};

// Makes stored bytes of kVectors times 16 lanes, in steps that the caller may put between work that
// doesn't depend on them: the processors look only a few instructions ahead.
template <int kShift, Form kForm, int kVectors>
class Finish {
  public:
    static constexpr int kSteps = 6;

    EFFNET_EDGE_INLINE Finish(const Narrowed<kShift> (&sums)[kVectors], const Lanes& lanes,
                              const Epilogue& epilogue)
        : lanes_(lanes), epilogue_(epilogue) {
        for (int v = 0; v < kVectors; ++v) sums_[v] = sums[v];
    }

    // Steps 0 to kSteps - 1 are to be taken in this order.
    template <int kStep>
    EFFNET_EDGE_INLINE void step() {
        if constexpr (kStep == 0) multiply();
        if constexpr (kStep == 1) narrow();
        if constexpr (kStep == 2) look_up_slopes();
        if constexpr (kStep == 3) look_up_bases();
        if constexpr (kStep == 4) interpolate();
        if constexpr (kStep == 5) correct();
    }
    EFFNET_EDGE_INLINE void all_steps() {
        unroll<kSteps>([&](auto i) EFFNET_EDGE_INLINE_LAMBDA { step<i>(); });
    }

    EFFNET_EDGE_INLINE uint8x16_t bytes(int vector) const { return bytes_[vector]; }

  private:
    EFFNET_EDGE_INLINE void multiply() {
        for (int v = 0; v < kVectors; ++v) {
            for (int h = 0; h < 2; ++h) {
                values_[v][h] = sums_[v].times(lanes_.value, h);
                if constexpr (kForm == Form::kProduct) {
                    arguments_[v][h] = vqaddq_s16(sums_[v].times(lanes_.argument, h),
                                                  vld1q_dup_s16(&epilogue_.argument_zero_point));
                }
            }
        }
    }
    EFFNET_EDGE_INLINE void narrow() {
        for (int v = 0; v < kVectors; ++v) {
            const int16x8_t(&from)[2] = kForm == Form::kProduct ? arguments_[v] : values_[v];
            bytes_[v] = vqmovun_high_s16(vqmovun_s16(from[0]), from[1]);
            if constexpr (kForm == Form::kByte) {
                bytes_[v] = veorq_u8(bytes_[v], vdupq_n_u8(0x80));
            }
        }
    }
    // Lookup::kInterpolated: base[byte / 8] + rounded slope[byte / 8] * (byte % 8 - 4).
    EFFNET_EDGE_INLINE void look_up_slopes() {
        if constexpr (kForm == Form::kByte) return;
        const uint8x16x2_t slope = vld1q_u8_x2(epilogue_.slope);
        for (int v = 0; v < kVectors; ++v) {
            pieces_[v] = vshrq_n_u8(bytes_[v], 3);
            products_[v] = vqtbl2q_u8(slope, pieces_[v]);
        }
    }
    EFFNET_EDGE_INLINE void look_up_bases() {
        if constexpr (kForm == Form::kByte) return;
        const uint8x16x2_t base = vld1q_u8_x2(epilogue_.base);
        for (int v = 0; v < kVectors; ++v) {
            const uint8x16_t step = vsubq_u8(vandq_u8(bytes_[v], vdupq_n_u8(7)), vdupq_n_u8(4));
            products_[v] = vmulq_u8(products_[v], step);
            results_[v] = vqtbl2q_u8(base, pieces_[v]);
        }
    }
    EFFNET_EDGE_INLINE void interpolate() {
        if constexpr (kForm == Form::kByte) return;
        for (int v = 0; v < kVectors; ++v) {
            const int8x16_t product = vreinterpretq_s8_u8(products_[v]);
            int8x16_t result = vreinterpretq_s8_u8(results_[v]);
            if constexpr (kForm == Form::kLookup) {
                result = vrsraq_n_s8(result, product, kUsualSlopeShift);
            } else {
                const int8x16_t minus_shift = vld1q_s8(epilogue_.minus_slope_shift);
                result = vaddq_s8(result, vrshlq_s8(product, minus_shift));
            }
            results_[v] = vreinterpretq_u8_s8(result);
            if constexpr (kForm != Form::kProduct) {
                // TBL gives zeros beyond its table.
                const uint8x16_t index = vsubq_u8(bytes_[v], vld1q_u8(epilogue_.correction_first));
                bytes_[v] = vqtbl2q_u8(vld1q_u8_x2(epilogue_.correction), index);
            }
        }
    }
    EFFNET_EDGE_INLINE void correct() {
        for (int v = 0; v < kVectors; ++v) {
            if constexpr (kForm == Form::kLookup || kForm == Form::kAnyLookup) {
                bytes_[v] = vaddq_u8(results_[v], bytes_[v]);
            } else if constexpr (kForm == Form::kProduct) {
                // Sigmoids in 256ths, times 128: below 2^15.
                const int16x8_t factors[2] = {
                    vreinterpretq_s16_u16(vshll_n_u8(vget_low_u8(results_[v]), 7)),
                    vreinterpretq_s16_u16(vshll_high_n_u8(results_[v], 7))};
                const int16x8_t zero = vld1q_dup_s16(&epilogue_.zero_point);
                for (int h = 0; h < 2; ++h) {
                    values_[v][h] = vqaddq_s16(vqrdmulhq_s16(values_[v][h], factors[h]), zero);
                }
                bytes_[v] =
                    vreinterpretq_u8_s8(vqmovn_high_s16(vqmovn_s16(values_[v][0]), values_[v][1]));
            }
        }
    }

    const Lanes& lanes_;
    const Epilogue& epilogue_;
    Narrowed<kShift> sums_[kVectors];
    int16x8_t values_[kVectors][2];
    int16x8_t arguments_[kVectors][2];  // of a product
    uint8x16_t bytes_[kVectors], pieces_[kVectors], products_[kVectors], results_[kVectors];
};

// What tables of functions are indexed with: kFirstShift to kLastShift, then the two special ones.
using Shifts = std::integer_sequence<int, 4, 5, 6, 7, 8, 9, 10, 11, kWideShift, kAnyShift>;
static_assert(Shifts::size() == kLastShift - kFirstShift + 3);

inline size_t shift_index(const Epilogue& epilogue) {
    if (epilogue.shift == kWideShift) return Shifts::size() - 2;
    if (epilogue.shift < kFirstShift || epilogue.shift > kLastShift) return Shifts::size() - 1;
    return static_cast<size_t>(epilogue.shift - kFirstShift);
}

}  // namespace
}  // namespace effnet_edge
