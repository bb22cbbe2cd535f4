// Groups of 16 channels, as the 256-bit kernels take them: in two registers of int32 while they are
// sums, in half a register once they are bytes.
//
// The headers avx2_*.h are parts of avx2_kernels.cc and avxvnni_kernels.cc, which compile them for
// different instruction sets. All in them has internal linkage: of a function that they shared the
// linker might keep the copy that an older processor can't run.
#pragma once

#include <immintrin.h>

#include <cstring>

#include "../stage.h"

namespace effnet_edge {
namespace {

constexpr int kGroup = 16;
constexpr int kPanel = 48;  // expanded maps have 6 * 8 * n channels
constexpr int kPanelGroups = kPanel / kGroup;

// The channel in lane 0 to 15 of a group's two registers. Packing narrows within halves of 128
// bits: from this order it gives channels one after the other.
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

}  // namespace
}  // namespace effnet_edge
