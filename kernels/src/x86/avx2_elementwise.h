// Squeeze-excite's gate, the shortcut and channel sums.
#pragma once

#include "avx2_group.h"

namespace effnet_edge {
namespace {

// multiply_high16(bytes << 7, multiplier)
inline __m256i scale_words(__m256i words, __m256i multiplier) {
    return _mm256_mulhrs_epi16(_mm256_slli_epi16(words, 7), multiplier);
}

inline __m256i add_and_shift(__m256i words, __m256i offset, __m128i shift) {
    return _mm256_sra_epi16(_mm256_adds_epi16(words, offset), shift);
}

// Channels outside, pixels inside: a channel's factors stay in registers.
template <int kVectors>
inline void gate_channels(const GateRun& run, int channel) {
    const __m128i shift = _mm_cvtsi32_si128(run.shift);
    __m256i multiplier[kVectors], offset[kVectors];
    for (int v = 0; v < kVectors; ++v) {
        multiplier[v] = load(run.multiplier + channel + v * kGroup);
        offset[v] = load(run.offset + channel + v * kGroup);
    }
    for (size_t p = 0; p < run.pixels; ++p) {
        const size_t at = p * run.channels + channel;
        for (int v = 0; v < kVectors; ++v) {
            const __m256i scaled = scale_words(load_words(run.in + at + v * kGroup), multiplier[v]);
            store_half(run.out + at + v * kGroup, to_bytes(add_and_shift(scaled, offset[v], shift)));
        }
    }
}

void gate(const GateRun& run) {
    int channel = 0;
    for (; channel + 4 * kGroup <= run.channels; channel += 4 * kGroup) gate_channels<4>(run, channel);
    for (; channel < run.channels; channel += kGroup) gate_channels<1>(run, channel);
}

inline __m128i add_bytes(const AddRun& run, const uint8_t* a, const uint8_t* b) {
    const __m256i first = scale_words(load_words(a), _mm256_set1_epi16(run.multiplier));
    const __m256i second = scale_words(load_words(b), _mm256_set1_epi16(run.shortcut_multiplier));
    return to_bytes(add_and_shift(_mm256_adds_epi16(first, second), _mm256_set1_epi16(run.offset),
                                  _mm_cvtsi32_si128(run.shift)));
}

void add(const AddRun& run) {
    size_t i = 0;
    for (; i + kGroup <= run.bytes; i += kGroup) {
        store_half(run.inout + i, add_bytes(run, run.inout + i, run.shortcut + i));
    }
    if (i == run.bytes) return;
    uint8_t a[kGroup] = {}, b[kGroup] = {};
    std::memcpy(a, run.inout + i, run.bytes - i);
    std::memcpy(b, run.shortcut + i, run.bytes - i);
    store_half(a, add_bytes(run, a, b));
    std::memcpy(run.inout + i, a, run.bytes - i);
}

void sum_group(const SumRun& run, int channel) {
    constexpr size_t kMost = 256;  // 16-bit sums of so many bytes don't overflow
    int32_t* sums = run.sums + channel;
    for (size_t p = 0; p < run.pixels;) {
        const size_t end = run.pixels - p < kMost ? run.pixels : p + kMost;
        __m256i words = _mm256_setzero_si256();
        for (; p < end; ++p) {
            words = _mm256_add_epi16(words, load_words(run.in + p * run.in_stride + channel));
        }
        const __m256i low = _mm256_cvtepu16_epi32(_mm256_castsi256_si128(words));
        const __m256i high = _mm256_cvtepu16_epi32(_mm256_extracti128_si256(words, 1));
        store(sums, _mm256_add_epi32(load(sums), low));
        store(sums + 8, _mm256_add_epi32(load(sums + 8), high));
    }
}

void sum(const SumRun& run) {
    int channel = 0;
    for (; channel + kGroup <= run.channels; channel += kGroup) sum_group(run, channel);
    for (; channel < run.channels; ++channel) {
        for (size_t p = 0; p < run.pixels; ++p) {
            run.sums[channel] += run.in[p * run.in_stride + channel];
        }
    }
}

}  // namespace
}  // namespace effnet_edge
