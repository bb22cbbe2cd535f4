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

// 32 bytes as 16-bit numbers: of each half the first 8 in one register, the last 8 in the other.
struct Words {
    __m256i low, high;
};

inline Words widen(__m256i bytes) {
    const __m256i zero = _mm256_setzero_si256();
    return {_mm256_unpacklo_epi8(bytes, zero), _mm256_unpackhi_epi8(bytes, zero)};
}

// Factors of 32 channels in the same order.
inline Words load_factors(const int16_t* from) {
    const __m256i first = load(from), second = load(from + kGroup);
    return {_mm256_permute2x128_si256(first, second, 0x20),
            _mm256_permute2x128_si256(first, second, 0x31)};
}

// Channels outside, pixels inside: a channel's factors stay in registers.
template <int kVectors>
inline void gate_channels(const GateRun& run, int channel) {
    const __m128i shift = _mm_cvtsi32_si128(run.shift);
    Words multiplier[kVectors], offset[kVectors];
    for (int v = 0; v < kVectors; ++v) {
        multiplier[v] = load_factors(run.multiplier + channel + v * 32);
        offset[v] = load_factors(run.offset + channel + v * 32);
    }
    for (size_t p = 0; p < run.pixels; ++p) {
        const size_t at = p * run.channels + channel;
        for (int v = 0; v < kVectors; ++v) {
            const Words words = widen(load(run.in + at + v * 32));
            const __m256i low =
                add_and_shift(scale_words(words.low, multiplier[v].low), offset[v].low, shift);
            const __m256i high =
                add_and_shift(scale_words(words.high, multiplier[v].high), offset[v].high, shift);
            store(run.out + at + v * 32, _mm256_packus_epi16(low, high));
        }
    }
}

inline void gate_group(const GateRun& run, int channel) {
    const __m128i shift = _mm_cvtsi32_si128(run.shift);
    const __m256i multiplier = load(run.multiplier + channel), offset = load(run.offset + channel);
    for (size_t p = 0; p < run.pixels; ++p) {
        const size_t at = p * run.channels + channel;
        const __m256i scaled = scale_words(load_words(run.in + at), multiplier);
        store_half(run.out + at, to_bytes(add_and_shift(scaled, offset, shift)));
    }
}

void gate(const GateRun& run) {
    int channel = 0;
    for (; channel + 64 <= run.channels; channel += 64) gate_channels<2>(run, channel);
    for (; channel + 32 <= run.channels; channel += 32) gate_channels<1>(run, channel);
    for (; channel < run.channels; channel += kGroup) gate_group(run, channel);
}

inline __m256i add_words(const AddRun& run, __m256i words, __m256i shortcut) {
    const __m256i first = scale_words(words, _mm256_set1_epi16(run.multiplier));
    const __m256i second = scale_words(shortcut, _mm256_set1_epi16(run.shortcut_multiplier));
    return add_and_shift(_mm256_adds_epi16(first, second), _mm256_set1_epi16(run.offset),
                         _mm_cvtsi32_si128(run.shift));
}

inline void add_vector(const AddRun& run, uint8_t* inout, const uint8_t* shortcut) {
    const Words a = widen(load(inout)), b = widen(load(shortcut));
    store(inout, _mm256_packus_epi16(add_words(run, a.low, b.low), add_words(run, a.high, b.high)));
}

void add(const AddRun& run) {
    constexpr size_t kVector = 32;
    const AddRun copy = run;  // as far as compilers know a store may change `run`
    size_t i = 0;
    for (; i + kVector <= copy.bytes; i += kVector) {
        add_vector(copy, copy.inout + i, copy.shortcut + i);
    }
    if (i == copy.bytes) return;
    uint8_t inout[kVector] = {}, shortcut[kVector] = {};
    std::memcpy(inout, copy.inout + i, copy.bytes - i);
    std::memcpy(shortcut, copy.shortcut + i, copy.bytes - i);
    add_vector(copy, inout, shortcut);
    std::memcpy(copy.inout + i, inout, copy.bytes - i);
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
