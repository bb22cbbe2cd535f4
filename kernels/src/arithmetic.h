// The arithmetic that all kernels share, one number at a time. It defines the results: a vector
// kernel is right if it gives the same bytes.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "stage.h"

namespace effnet_edge {

inline int32_t saturate(int32_t value, int32_t low, int32_t high) {
    return std::min(std::max(value, low), high);
}

inline int32_t saturate16(int32_t value) { return saturate(value, -32768, 32767); }

// The rounded high half of a doubled 16-bit product: PMULHRSW on x86, SQRDMULH on ARM. The two
// differ for -32768 * -32768 alone, which no constant of ours allows.
inline int32_t multiply_high16(int32_t a, int32_t b) { return (a * b + (1 << 14)) >> 15; }

// The same in 32 bits: SQRDMULH. `b` is never -2^31.
inline int32_t multiply_high32(int32_t a, int32_t b) {
    return static_cast<int32_t>((static_cast<int64_t>(a) * b + (INT64_C(1) << 30)) >> 31);
}

// Half to even. `value` must be within +-2^22, which plans check.
inline int32_t round_to_int(double value) { return static_cast<int32_t>(std::nearbyint(value)); }

// The same in float32, for values within +-2^22: adding and subtracting 1.5 * 2^23 is, unlike a
// library's function, two instructions everywhere, so that compilers make vectors of loops.
inline float round_half_even(float value) {
    constexpr float kRounding = 12582912.0F;
    return (value + kRounding) - kRounding;
}

// A sum, bias included, in steps of the result: rounded, without kFloat's zero point, saturated to
// 16 bits but for kFloat.
inline int32_t to_steps(const Requantizer& requantizer, float scale, int32_t multiplier,
                        int32_t total) {
    switch (requantizer.kind) {
        case Requantization::kFloat:
            // The product of two float32 is exact in a double: rounded once.
            return round_to_int(static_cast<double>(static_cast<float>(total)) *
                                static_cast<double>(scale));
        case Requantization::kNarrow: {
            const int64_t half = INT64_C(1) << (requantizer.shift - 1);
            const int64_t shifted = (static_cast<int64_t>(total) + half) >> requantizer.shift;
            const int64_t low = -32768, high = 32767;
            const int64_t narrow = std::min(std::max(shifted, low), high);
            return multiply_high16(static_cast<int32_t>(narrow), multiplier);
        }
        case Requantization::kWide:
            return saturate16(multiply_high32(total, multiplier));
    }
    return 0;
}

inline uint8_t store(int32_t value, bool signed_maps) {
    return static_cast<uint8_t>(signed_maps ? saturate(value, -128, 127) : saturate(value, 0, 255));
}

// The stored byte that the sum of `channel` becomes.
inline uint8_t finish(const Stage& stage, int channel, int32_t sum) {
    const Requantizer& requantizer = stage.requantizer;
    const Activation& activation = stage.activation;
    const bool is_float = requantizer.kind == Requantization::kFloat;
    const int32_t total = sum + requantizer.bias[channel];
    const int32_t value = to_steps(requantizer, is_float ? requantizer.scale[channel] : 0,
                                   is_float ? 0 : requantizer.multiplier[channel], total);
    if (activation.product) {
        const int32_t argument =
            to_steps(requantizer, is_float ? activation.argument_scale[channel] : 0,
                     is_float ? 0 : activation.argument_multiplier[channel], total);
        const int32_t byte =
            saturate(saturate16(argument) + activation.argument_zero_point, 0, 255);
        const int32_t product = multiply_high16(saturate16(value), activation.table[byte] << 7);
        return store(product + activation.zero_point, stage.signed_maps);
    }
    const int32_t byte = saturate(value + (is_float ? requantizer.zero_point : 0), 0, 255);
    if (activation.kind == Lookup::kNone) {
        return static_cast<uint8_t>(stage.signed_maps ? byte ^ 0x80 : byte);
    }
    return activation.table[byte];
}

// One entry of an interpolated table, but for its correction: 8-bit wrapping arithmetic, rounding
// half up.
inline uint8_t interpolate(int8_t base, int8_t slope, int slope_shift, uint8_t byte) {
    const int product = slope * (byte % 8 - 4);  // builders keep it within -128..127
    const int rounded = (product + (1 << (slope_shift - 1))) >> slope_shift;
    return static_cast<uint8_t>(base + rounded);
}

// A stored byte as the integer that it stands for.
inline int32_t stored(uint8_t byte, bool signed_maps) {
    return signed_maps ? static_cast<int8_t>(byte) : byte;
}

}  // namespace effnet_edge
