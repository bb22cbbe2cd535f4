// Gate, shortcut, channel sums and the classifier: what AVX-512 kernels share, bound by memory.
// GCC's own header leaves a register undefined on purpose, and then warns of it: GCC bug 105593.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>

#include <cstring>

#include "avx512.h"

namespace effnet_edge::avx512 {
namespace {

// 32 bytes as 16-bit numbers times 2^7, times a multiplier, rounded.
inline __m512i scaled(__m256i bytes, __m512i multiplier) {
    return _mm512_mulhrs_epi16(_mm512_slli_epi16(_mm512_cvtepu8_epi16(bytes), 7), multiplier);
}

inline __m256i load32(const uint8_t* from, __mmask32 mask) {
    return _mm256_maskz_loadu_epi8(mask, from);
}

inline __m256i narrow(__m512i words) {
    return _mm512_cvtusepi16_epi8(_mm512_max_epi16(words, _mm512_setzero_si512()));
}

}  // namespace

void gate(const GateRun& run) {
    const __m128i shift = _mm_cvtsi32_si128(run.shift);
    const uint8_t* in = run.in;
    uint8_t* out = run.out;
    for (size_t p = 0; p < run.pixels; ++p) {
        for (int c = 0; c < run.channels; c += 32) {
            const __mmask32 mask = c + 32 <= run.channels ? ~__mmask32{0} : 0xFFFF;
            const __m512i multiplier = _mm512_maskz_loadu_epi16(mask, run.multiplier + c);
            const __m512i offset = _mm512_maskz_loadu_epi16(mask, run.offset + c);
            const __m512i product = scaled(load32(in + c, mask), multiplier);
            const __m512i sum = _mm512_sra_epi16(_mm512_adds_epi16(product, offset), shift);
            _mm256_mask_storeu_epi8(out + c, mask, narrow(sum));
        }
        in += run.channels;
        out += run.channels;
    }
}

void add(const AddRun& run) {
    const __m512i multiplier = _mm512_set1_epi16(run.multiplier);
    const __m512i shortcut_multiplier = _mm512_set1_epi16(run.shortcut_multiplier);
    const __m512i offset = _mm512_set1_epi16(run.offset);
    const __m128i shift = _mm_cvtsi32_si128(run.shift);
    const auto add_32 = [&](size_t i, __mmask32 mask) {
        const __m512i a = scaled(load32(run.inout + i, mask), multiplier);
        const __m512i b = scaled(load32(run.shortcut + i, mask), shortcut_multiplier);
        const __m512i sum = _mm512_adds_epi16(_mm512_adds_epi16(a, b), offset);
        return narrow(_mm512_sra_epi16(sum, shift));
    };
    size_t i = 0;
    for (; i + 32 <= run.bytes; i += 32) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(run.inout + i), add_32(i, ~__mmask32{0}));
    }
    if (i < run.bytes) {
        const __mmask32 mask = ~__mmask32{0} >> (32 - (run.bytes - i));
        _mm256_mask_storeu_epi8(run.inout + i, mask, add_32(i, mask));
    }
}

void sum(const SumRun& run) {
    for (int c = 0; c < run.channels; c += kGroup) {
        const int left = run.channels - c;
        const __mmask16 mask = left >= kGroup ? 0xFFFF : static_cast<__mmask16>((1 << left) - 1);
        __m512i total = _mm512_maskz_loadu_epi32(mask, run.sums + c);
        const uint8_t* in = run.in + c;
        for (size_t p = 0; p < run.pixels; ++p, in += run.in_stride) {
            total = _mm512_add_epi32(total,
                                     _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(mask, in)));
        }
        _mm512_mask_storeu_epi32(run.sums + c, mask, total);
    }
}

void classify(const void* packed, const uint8_t* features, int first_class, int last_class,
              float* logits) {
    const auto& header = *static_cast<const ClassifierHeader*>(packed);
    const int padded = groups_of(header.classes) * kGroup;
    const auto* bias = reinterpret_cast<const int32_t*>(&header + 1);
    const auto* scale = reinterpret_cast<const float*>(bias + padded);
    const auto* weights = reinterpret_cast<const int8_t*>(scale + padded);
    for (int c = first_class; c < last_class; c += kGroup) {
        const int8_t* weight = weights + static_cast<size_t>(c) * header.depth;
        // Two sums, since one alone waits for itself.
        __m512i sum[2] = {_mm512_load_si512(bias + c), _mm512_setzero_si512()};
        for (int k = 0; k < header.depth; k += 8, weight += 2 * kVector) {
            for (int i = 0; i < 2; ++i) {
                int32_t four;
                std::memcpy(&four, features + k + 4 * i, sizeof four);
                sum[i] = _mm512_dpbusd_epi32(sum[i], _mm512_set1_epi32(four),
                                             _mm512_load_si512(weight + i * kVector));
            }
        }
        const __m512 total = _mm512_cvtepi32_ps(_mm512_add_epi32(sum[0], sum[1]));
        const int left = last_class - c;
        const __mmask16 mask = left >= kGroup ? 0xFFFF : static_cast<__mmask16>((1 << left) - 1);
        _mm512_mask_storeu_ps(logits + c, mask, _mm512_mul_ps(total, _mm512_load_ps(scale + c)));
    }
}

}  // namespace effnet_edge::avx512
