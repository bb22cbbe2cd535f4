// From int32 sums to stored bytes, for the kernels that have dot products.
//
// NEON's narrowing shifts are part of the instruction, so that each shift is code of its own: of
// Requantizer::shift, which gives 16-bit values, and of DotEpilogue::lookup, which gives bytes.
// Kernels are templates over the usual ones; `requantize` and `activate` jump to the code of any
// while sums stay in registers.
#pragma once

#include <arm_neon.h>

#include "dot_constants.h"

namespace effnet_edge {
namespace {

// 16-bit vectors of 8 channels each.
template <int kVectors>
struct Values {
    int16x8_t value[kVectors];
    int16x8_t argument[kVectors];  // of products only
};

// With the intrinsics for the second half of a narrowed register GCC 12 copies the first half.
// These two are without that.
template <int kShift>
EFFNET_EDGE_INLINE int16x8_t narrowed(int32x4_t low, int32x4_t high) {
    int16x8_t result;
    asm("sqrshrn %0.4h, %1.4s, %3\n\tsqrshrn2 %0.8h, %2.4s, %3"
        : "=&w"(result)
        : "w"(low), "w"(high), "i"(kShift));
    return result;
}

EFFNET_EDGE_INLINE uint8x16_t saturated_bytes(int16x8_t low, int16x8_t high) {
    uint8x16_t result;
    asm("sqxtun %0.8b, %1.8h\n\tsqxtun2 %0.16b, %2.8h" : "=&w"(result) : "w"(low), "w"(high));
    return result;
}

// The multipliers of two vectors of 8 channels.
template <int kShift>
class Factors {
  public:
    EFFNET_EDGE_INLINE Factors(const DotConstants::Multiplier& from, int high_channel)
        : low_(vld1q_s16(from.narrow)), high_(vld1q_s16(from.narrow + high_channel)) {}

    // Of the 16-bit values that `narrowed` gives.
    template <bool kHigh>
    EFFNET_EDGE_INLINE int16x8_t times(int16x8_t value) const {
        return vqrdmulhq_s16(value, kHigh ? high_ : low_);
    }

  private:
    int16x8_t low_, high_;
};

template <>
class Factors<0> {
  public:
    EFFNET_EDGE_INLINE Factors(const DotConstants::Multiplier& from, int high_channel) {
        for (int i = 0; i < 2; ++i) {
            of_[i] = vld1q_s32(from.wide + 4 * i);
            of_[2 + i] = vld1q_s32(from.wide + high_channel + 4 * i);
        }
    }

    template <bool kHigh>
    EFFNET_EDGE_INLINE int16x8_t times(int32x4_t low, int32x4_t high) const {
        return vqmovn_high_s32(vqmovn_s32(vqrdmulhq_s32(low, of_[kHigh * 2])),
                               vqrdmulhq_s32(high, of_[kHigh * 2 + 1]));
    }

  private:
    int32x4_t of_[4];
};

// Even vectors belong to channels 0 to 7, odd ones to those from the factors' `high_channel` on.
// `argument`: of products only.
template <bool kProduct, int kShift, int kVectors>
EFFNET_EDGE_INLINE void requantize_by(const int32x4_t (&sums)[2 * kVectors],
                                      const Factors<kShift>& factors,
                                      const Factors<kShift>& argument, Values<kVectors>& values) {
    unrolled<kVectors>([&](auto index) EFFNET_EDGE_INLINED {
        constexpr int i = decltype(index)::value;
        const int32x4_t low = sums[2 * i], high = sums[2 * i + 1];
        if constexpr (kShift == 0) {
            values.value[i] = factors.template times<i % 2>(low, high);
            if (kProduct) values.argument[i] = argument.template times<i % 2>(low, high);
        } else {
            const int16x8_t narrow = narrowed<kShift>(low, high);
            values.value[i] = factors.template times<i % 2>(narrow);
            if (kProduct) values.argument[i] = argument.template times<i % 2>(narrow);
        }
    });
}

// Of 16 channels.
template <bool kProduct, int kShift, int kVectors>
EFFNET_EDGE_INLINE void requantize_by(const int32x4_t (&sums)[2 * kVectors],
                                      const DotConstants& constants, Values<kVectors>& values) {
    const Factors<kShift> factors(constants.multiplier, 8), argument(constants.argument, 8);
    requantize_by<kProduct>(sums, factors, argument, values);
}

template <bool kProduct, int kVectors>
EFFNET_EDGE_INLINE void requantize(const int32x4_t (&sums)[2 * kVectors], int shift,
                                   const DotConstants& constants, Values<kVectors>& values) {
    // The mask tells the compiler that there are no other cases to check for.
    switch (shift & 15) {
        case 0:
            return requantize_by<kProduct, 0>(sums, constants, values);
        case 1:
            return requantize_by<kProduct, 1>(sums, constants, values);
        case 2:
            return requantize_by<kProduct, 2>(sums, constants, values);
        case 3:
            return requantize_by<kProduct, 3>(sums, constants, values);
        case 4:
            return requantize_by<kProduct, 4>(sums, constants, values);
        case 5:
            return requantize_by<kProduct, 5>(sums, constants, values);
        case 6:
            return requantize_by<kProduct, 6>(sums, constants, values);
        case 7:
            return requantize_by<kProduct, 7>(sums, constants, values);
        case 8:
            return requantize_by<kProduct, 8>(sums, constants, values);
        case 9:
            return requantize_by<kProduct, 9>(sums, constants, values);
        case 10:
            return requantize_by<kProduct, 10>(sums, constants, values);
        case 11:
            return requantize_by<kProduct, 11>(sums, constants, values);
        case 12:
            return requantize_by<kProduct, 12>(sums, constants, values);
        case 13:
            return requantize_by<kProduct, 13>(sums, constants, values);
        case 14:
            return requantize_by<kProduct, 14>(sums, constants, values);
        case 15:
            return requantize_by<kProduct, 15>(sums, constants, values);
    }
}

// GCC 12 keeps pairs of registers in memory: TBL's intrinsic writes the table to the stack and
// reads it back, each time. Not so with these two.
EFFNET_EDGE_INLINE uint8x16x2_t loaded_table(const uint8_t (&from)[32]) {
    uint8x16x2_t table;
    asm("ld1 {%S0.16b, %T0.16b}, %1" : "=w"(table) : "Q"(from));
    return table;
}

EFFNET_EDGE_INLINE int8x16_t looked_up(uint8x16x2_t table, uint8x16_t index) {
    int8x16_t result;
    asm("tbl %0.16b, {%S1.16b, %T1.16b}, %2.16b" : "=w"(result) : "w"(table), "w"(index));
    return result;
}

// Lookup::kInterpolated. kLookup is DotEpilogue::lookup, not 0.
template <int kLookup>
EFFNET_EDGE_INLINE uint8x16_t interpolated(uint8x16_t byte, uint8x16x2_t base, uint8x16x2_t slope,
                                           uint8x16x2_t offset, uint8x16x2_t correction,
                                           uint8x16_t correction_first) {
    const uint8x16_t piece = vshrq_n_u8(byte, 3);
    const int8x16_t product =
        vmlaq_s8(looked_up(offset, piece), looked_up(slope, piece), vreinterpretq_s8_u8(byte));
    int8x16_t result = looked_up(base, piece);
    if constexpr (kLookup >= 8) {
        result = vaddq_s8(result, looked_up(correction, vsubq_u8(byte, correction_first)));
    }
    return vreinterpretq_u8_s8(vrsraq_n_s8(result, product, kLookup % 8));
}

// 16-bit values times sigmoids in 256ths.
EFFNET_EDGE_INLINE uint8x16_t multiplied(int16x8_t low, int16x8_t high, uint8x16_t sigmoids,
                                         int16x8_t zero_point) {
    const int16x8_t sigmoids_low = vreinterpretq_s16_u16(vshll_n_u8(vget_low_u8(sigmoids), 7));
    const int16x8_t sigmoids_high = vreinterpretq_s16_u16(vshll_high_n_u8(sigmoids, 7));
    int8x16_t result;
    asm("sqxtn %0.8b, %1.8h\n\tsqxtn2 %0.16b, %2.8h"
        : "=&w"(result)
        : "w"(vqaddq_s16(vqrdmulhq_s16(low, sigmoids_low), zero_point)),
          "w"(vqaddq_s16(vqrdmulhq_s16(high, sigmoids_high), zero_point)));
    return vreinterpretq_u8_s8(result);
}

// Sixteen stored bytes from two vectors of values, and for products two of arguments. Tables are
// used as kLookup says. zero_point: of the argument and of the result, of products.
template <bool kProduct, int kLookup>
EFFNET_EDGE_INLINE uint8x16_t activated(int16x8_t low, int16x8_t high, int16x8_t argument_low,
                                        int16x8_t argument_high, uint8x16x2_t base,
                                        uint8x16x2_t slope, uint8x16x2_t offset,
                                        uint8x16x2_t correction, uint8x16_t correction_first,
                                        int16x8_t argument_zero_point, int16x8_t zero_point) {
    if constexpr (kLookup == 0) {
        return veorq_u8(saturated_bytes(low, high), vdupq_n_u8(0x80));
    } else if constexpr (kProduct) {
        const uint8x16_t argument = saturated_bytes(vqaddq_s16(argument_low, argument_zero_point),
                                                    vqaddq_s16(argument_high, argument_zero_point));
        return multiplied(
            low, high,
            interpolated<kLookup>(argument, base, slope, offset, correction, correction_first),
            zero_point);
    } else {
        return interpolated<kLookup>(saturated_bytes(low, high), base, slope, offset, correction,
                                     correction_first);
    }
}

// What becomes of the results is part of each of `activate`'s cases, so that the compiler can mix
// it with their work: put(bytes), bytes[i] from vectors 2 * i and 2 * i + 1.
template <bool kProduct, int kLookup, int kVectors, class Put>
EFFNET_EDGE_INLINE void activate_by(const Values<kVectors>& values, const DotEpilogue& epilogue,
                                    const Put& put) {
    const uint8x16x2_t base = loaded_table(epilogue.base), slope = loaded_table(epilogue.slope);
    const uint8x16x2_t offset = loaded_table(epilogue.offset);
    const uint8x16x2_t correction = loaded_table(epilogue.correction);
    const uint8x16_t correction_first = vld1q_dup_u8(&epilogue.correction_first);
    const int16x8_t argument_zero_point = vdupq_n_s16(epilogue.argument_zero_point);
    const int16x8_t zero_point = vdupq_n_s16(epilogue.zero_point);
    uint8x16_t bytes[kVectors / 2];
    unrolled<kVectors / 2>([&](auto index) EFFNET_EDGE_INLINED {
        constexpr int low = 2 * decltype(index)::value, high = low + 1;
        bytes[index.value] = activated<kProduct, kLookup>(
            values.value[low], values.value[high], values.argument[low], values.argument[high],
            base, slope, offset, correction, correction_first, argument_zero_point, zero_point);
    });
    put(bytes);
}

template <bool kProduct, int kVectors, class Put>
EFFNET_EDGE_INLINE void activate(const Values<kVectors>& values, const DotEpilogue& epilogue,
                                 const Put& put) {
    // A product has no correction.
    switch (kProduct ? epilogue.lookup & 7 : epilogue.lookup) {
        case 0:
            return activate_by<kProduct, 0>(values, epilogue, put);
        case 3:
            return activate_by<kProduct, 3>(values, epilogue, put);
        case 4:
            return activate_by<kProduct, 4>(values, epilogue, put);
        case 5:
            return activate_by<kProduct, 5>(values, epilogue, put);
        case 6:
            return activate_by<kProduct, 6>(values, epilogue, put);
        case 11:
            return activate_by<kProduct, 11>(values, epilogue, put);
        case 12:
            return activate_by<kProduct, 12>(values, epilogue, put);
        case 13:
            return activate_by<kProduct, 13>(values, epilogue, put);
        case 14:
            return activate_by<kProduct, 14>(values, epilogue, put);
        default:
            __builtin_unreachable();
    }
}

}  // namespace
}  // namespace effnet_edge
