// Groups of 16 channels, as the 256-bit kernels take them: in two registers of int32 while they are
// sums, in half a register once they are bytes.
//
// The avx2_*.h headers are not interfaces but parts of avx2_kernels.cc and avxvnni_kernels.cc, which
// compile them for different instruction sets. All in them has internal linkage: a function shared
// by the linker might be the copy that an older processor can't run.
#pragma once

#include <immintrin.h>

#include <cstring>

#include "../stage.h"

namespace effnet_edge {
namespace {

constexpr int kGroup = 16;
constexpr int kPanel = 48;  // expanded maps have 6 * 8 * n channels
constexpr int kPanelGroups = kPanel / kGroup;

// 1.5 * 2^23: a float near it has steps of one, so that adding it rounds, half to even, and the low
// bits are the integer.
constexpr int32_t kRounderBits = 0x4B400000;
constexpr float kRounder = 12582912.0f;

// The channel in lane 0 to 15 of a group's two registers. Packing narrows within halves of 128 bits:
// from this order it gives channels one after the other.
constexpr int channel_of_lane(int lane) { return (lane / 4 % 2) * 8 + (lane / 8) * 4 + lane % 4; }

// The same where only the first 8 channels exist and one register holds them.
constexpr int channel_of_half_lane(int lane) { return lane; }

struct alignas(64) GroupConstants {
    int32_t bias[kGroup];
    float scale[kGroup];        // to the byte that is looked up, or is the result
    float value_scale[kGroup];  // of a product: to what the looked up sigmoid is multiplied with
};

inline __m256i load(const void* from) {
    return _mm256_loadu_si256(static_cast<const __m256i*>(from));
}

inline void store(void* to, __m256i value) {
    _mm256_storeu_si256(static_cast<__m256i*>(to), value);
}

inline __m128i load_half(const void* from) {
    return _mm_loadu_si128(static_cast<const __m128i*>(from));
}

inline void store_half(void* to, __m128i value) {
    _mm_storeu_si128(static_cast<__m128i*>(to), value);
}

// 16 bytes as 16-bit numbers.
inline __m256i load_words(const uint8_t* from) { return _mm256_cvtepu8_epi16(load_half(from)); }

// The first `count` bytes, 1 to 16.
inline void store_bytes(uint8_t* to, __m128i bytes, int count) {
    if (count >= kGroup) {
        store_half(to, bytes);
    } else if (count == 8) {
        _mm_storel_epi64(reinterpret_cast<__m128i*>(to), bytes);
    } else {
        uint8_t all[kGroup];
        store_half(all, bytes);
        for (int i = 0; i < count; ++i) to[i] = all[i];
    }
}

inline __m128i to_bytes(__m256i words) {
    return _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
}

// Sums, the bias included, to 32-bit integers. The product is rounded once: FMA adds the rounder to
// the exact one. `rounder_bits` are kRounderBits minus what is to be added to the rounded result.
inline __m256i requantize(__m256i sums, __m256 scale, __m256i rounder_bits) {
    const __m256 rounded = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums), scale, _mm256_set1_ps(kRounder));
    return _mm256_sub_epi32(_mm256_castps_si256(rounded), rounder_bits);
}

// A group's sums to saturated 16-bit numbers.
inline __m256i requantize_group(const __m256i (&sums)[2], const float* scale, __m256i rounder_bits) {
    return _mm256_packs_epi32(requantize(sums[0], _mm256_load_ps(scale), rounder_bits),
                              requantize(sums[1], _mm256_load_ps(scale + 8), rounder_bits));
}

// 8 channels and as many zeros.
inline __m256i requantize_group(const __m256i (&sums)[1], const float* scale, __m256i rounder_bits) {
    const __m256i half = requantize(sums[0], _mm256_load_ps(scale), rounder_bits);
    return _mm256_permute4x64_epi64(_mm256_packs_epi32(half, _mm256_setzero_si256()), 0xD8);
}

// A product with a sigmoid in 256ths.
inline __m256i multiply_sigmoid(__m256i values, __m256i sigmoids, int zero_point) {
    return _mm256_adds_epi16(_mm256_mulhrs_epi16(values, _mm256_slli_epi16(sigmoids, 7)),
                             _mm256_set1_epi16(static_cast<int16_t>(zero_point)));
}

}  // namespace
}  // namespace effnet_edge
