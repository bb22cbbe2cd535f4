// From sums to the bytes of a map: requantization and activation.
#pragma once

#include "avx2_pack.h"

namespace effnet_edge {
namespace {

// A group's sums, the bias included, of some pixels: two registers each, or one for 8 channels or
// fewer.
template <int kPixels, int kVectors>
struct Sums {
    __m256i of[kPixels][kVectors];
};

constexpr int pairs(int pixels) { return (pixels + 1) / 2; }

// Of an odd number of pixels the last is its own neighbour.
constexpr int second_of(int pair, int pixels) {
    return 2 * pair + 1 < pixels ? 2 * pair + 1 : 2 * pair;
}

// Sums to 32-bit integers. The product is rounded once: FMA adds the rounder to
// the exact one. `rounder_bits` are kRounderBits minus what is to be added to the rounded result.
inline __m256i requantize(__m256i sums, __m256 scale, __m256i rounder_bits) {
    const __m256 rounded =
        _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums), scale, _mm256_set1_ps(kRounder));
    return _mm256_sub_epi32(_mm256_castps_si256(rounded), rounder_bits);
}

// A group's sums to saturated 16-bit numbers.
inline __m256i requantize_group(const __m256i (&sums)[2], const float* scale,
                                __m256i rounder_bits) {
    return _mm256_packs_epi32(requantize(sums[0], _mm256_load_ps(scale), rounder_bits),
                              requantize(sums[1], _mm256_load_ps(scale + 8), rounder_bits));
}

// 8 channels and as many zeros.
inline __m256i requantize_group(const __m256i (&sums)[1], const float* scale,
                                __m256i rounder_bits) {
    const __m256i half = requantize(sums[0], _mm256_load_ps(scale), rounder_bits);
    return _mm256_permute4x64_epi64(_mm256_packs_epi32(half, _mm256_setzero_si256()), 0xD8);
}

// A product with a sigmoid in 256ths.
inline __m256i multiply_sigmoid(__m256i values, __m256i sigmoids, int zero_point) {
    return _mm256_adds_epi16(_mm256_mulhrs_epi16(values, _mm256_slli_epi16(sigmoids, 7)),
                             _mm256_set1_epi16(static_cast<int16_t>(zero_point)));
}

// Two pixels as bytes, their channels 0-7, then their channels 8-15: to be looked up.
template <int kPixels, int kVectors>
[[gnu::always_inline]] inline void look_up_sums(const PackedStage& packed, int group,
                                                const Sums<kPixels, kVectors>& sums,
                                                __m256i (&bytes)[pairs(kPixels)]) {
    const float* scale = packed.constants(group).scale;
    const __m256i rounder_bits = _mm256_set1_epi32(packed.rounder_bits);
    constexpr int kPairs = pairs(kPixels);
#pragma GCC unroll 4
    for (int i = 0; i < kPairs; ++i) {
        bytes[i] = _mm256_packus_epi16(
            requantize_group(sums.of[2 * i], scale, rounder_bits),
            requantize_group(sums.of[second_of(i, kPixels)], scale, rounder_bits));
    }
    if (packed.lookup) look_up(packed.table, bytes);
}

// One pixel in each half.
inline __m256i separate(__m256i two_pixels) { return _mm256_permute4x64_epi64(two_pixels, 0xD8); }

// The result of a stage whose activation isn't a product.
template <int kPixels, int kVectors>
[[gnu::always_inline]] inline void finish_lookup(const PackedStage& packed, int group,
                                                 const Sums<kPixels, kVectors>& sums,
                                                 __m256i (&bytes)[pairs(kPixels)]) {
    look_up_sums(packed, group, sums, bytes);
    constexpr int kPairs = pairs(kPixels);
#pragma GCC unroll 4
    for (int i = 0; i < kPairs; ++i) bytes[i] = separate(bytes[i]);
}

// The result of one whose activation is: what was looked up are sigmoids.
template <int kPixels, int kVectors>
[[gnu::always_inline]] inline void finish_product(const PackedStage& packed, int group,
                                                  const Sums<kPixels, kVectors>& sums,
                                                  __m256i (&bytes)[pairs(kPixels)]) {
    look_up_sums(packed, group, sums, bytes);
    const float* scale = packed.constants(group).value_scale;
    const __m256i zero = _mm256_setzero_si256(), rounder_bits = _mm256_set1_epi32(kRounderBits);
    constexpr int kPairs = pairs(kPixels);
#pragma GCC unroll 4
    for (int i = 0; i < kPairs; ++i) {
        const auto& second = sums.of[second_of(i, kPixels)];
        bytes[i] = separate(_mm256_packus_epi16(
            multiply_sigmoid(requantize_group(sums.of[2 * i], scale, rounder_bits),
                             _mm256_unpacklo_epi8(bytes[i], zero), packed.zero_point),
            multiply_sigmoid(requantize_group(second, scale, rounder_bits),
                             _mm256_unpackhi_epi8(bytes[i], zero), packed.zero_point)));
    }
}

}  // namespace
}  // namespace effnet_edge
