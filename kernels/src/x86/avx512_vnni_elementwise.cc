// Gate, shortcut, channel sums and the classifier: what AVX-512 kernels share, bound by memory.
// GCC's own header leaves registers undefined, and warns of it: GCC bug 105593.
#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>

#include <cstring>

#include "avx512.h"

namespace effnet_edge::avx512 {
namespace {

// 64 bytes as 16-bit numbers times 2^7. Each 128-bit lane is split by itself, and `narrow` puts it
// together again: nothing crosses lanes, which would be slower.
struct Words {
    __m512i low;
    __m512i high;
};

inline Words widen(__m512i bytes) {
    const __m512i zero = _mm512_setzero_si512();
    return {_mm512_srli_epi16(_mm512_unpacklo_epi8(zero, bytes), 1),
            _mm512_srli_epi16(_mm512_unpackhi_epi8(zero, bytes), 1)};
}

inline __m512i narrow(__m512i low, __m512i high, __m128i shift) {
    return _mm512_packus_epi16(_mm512_sra_epi16(low, shift), _mm512_sra_epi16(high, shift));
}

// 64 numbers, or as many as `mask` says, in the order of `widen`.
inline Words in_order_of_widen(const int16_t* numbers, __mmask64 mask) {
    const __m512i a = _mm512_maskz_loadu_epi16(static_cast<__mmask32>(mask), numbers);
    const __m512i b = _mm512_maskz_loadu_epi16(static_cast<__mmask32>(mask >> 32), numbers + 32);
    return {_mm512_permutex2var_epi64(a, _mm512_setr_epi64(0, 1, 4, 5, 8, 9, 12, 13), b),
            _mm512_permutex2var_epi64(a, _mm512_setr_epi64(2, 3, 6, 7, 10, 11, 14, 15), b)};
}

// The first `count` of 64.
inline __mmask64 first(size_t count) {
    return count >= 64 ? ~__mmask64{0} : (__mmask64{1} << count) - 1;
}

// Without a mask where none is needed: masked stores of bytes are slow on some cores.
inline void store(uint8_t* out, __m512i bytes, __mmask64 mask) {
    if (mask == ~__mmask64{0}) {
        _mm512_storeu_si512(out, bytes);
    } else if (mask == 0xFFFFFFFF) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm512_castsi512_si256(bytes));
    } else if (mask == 0xFFFF) {
        _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm512_castsi512_si128(bytes));
    } else {
        _mm512_mask_storeu_epi8(out, mask, bytes);
    }
}

}  // namespace

void gate(const GateRun& run) {
    const __m128i shift = _mm_cvtsi32_si128(run.shift);
    for (int c = 0; c < run.channels; c += 64) {
        const __mmask64 mask = first(run.channels - c);
        const Words multiplier = in_order_of_widen(run.multiplier + c, mask);
        const Words offset = in_order_of_widen(run.offset + c, mask);
        const uint8_t* in = run.in + c;
        uint8_t* out = run.out + c;
        for (size_t p = 0; p < run.pixels; ++p, in += run.channels, out += run.channels) {
            const Words x = widen(_mm512_maskz_loadu_epi8(mask, in));
            const __m512i low =
                _mm512_adds_epi16(_mm512_mulhrs_epi16(x.low, multiplier.low), offset.low);
            const __m512i high =
                _mm512_adds_epi16(_mm512_mulhrs_epi16(x.high, multiplier.high), offset.high);
            store(out, narrow(low, high, shift), mask);
        }
    }
}

void add(const AddRun& run) {
    const __m512i multiplier = _mm512_set1_epi16(run.multiplier);
    const __m512i shortcut_multiplier = _mm512_set1_epi16(run.shortcut_multiplier);
    const __m512i offset = _mm512_set1_epi16(run.offset);
    const __m128i shift = _mm_cvtsi32_si128(run.shift);
    const auto sum = [&](__m512i x, __m512i y) {
        return _mm512_adds_epi16(_mm512_adds_epi16(_mm512_mulhrs_epi16(x, multiplier),
                                                   _mm512_mulhrs_epi16(y, shortcut_multiplier)),
                                 offset);
    };
    for (size_t i = 0; i < run.bytes; i += 64) {
        const __mmask64 mask = first(run.bytes - i);
        const Words x = widen(_mm512_maskz_loadu_epi8(mask, run.inout + i));
        const Words y = widen(_mm512_maskz_loadu_epi8(mask, run.shortcut + i));
        store(run.inout + i, narrow(sum(x.low, y.low), sum(x.high, y.high), shift), mask);
    }
}

void sum(const SumRun& run) {
    for (int c = 0; c < run.channels; c += kGroup) {
        const int left = run.channels - c;
        const __mmask16 mask = left >= kGroup ? 0xFFFF : static_cast<__mmask16>((1 << left) - 1);
        __m512i total = _mm512_maskz_loadu_epi32(mask, run.sums + c);
        const uint8_t* in = run.in + c;
        for (size_t p = 0; p < run.pixels; ++p, in += run.in_stride) {
            total = _mm512_add_epi32(total, _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(mask, in)));
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
