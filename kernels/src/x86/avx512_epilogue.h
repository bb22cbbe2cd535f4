// From int32 sums to bytes: requantization and activation.
//
// Included by one source file per instruction set; everything here is local to it.
#pragma once

// GCC's own header leaves registers undefined, and warns of it: GCC bug 105593.
#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>

#include "avx512.h"

// Arrays of registers stay in registers only if all functions that they pass through are inlined
// and all their indices are constants.
#define EFFNET_EDGE_INLINE __attribute__((always_inline)) inline
#define EFFNET_EDGE_LAMBDA __attribute__((always_inline))

namespace effnet_edge::avx512 {
namespace {

template <int kIndex>
struct Index {
    EFFNET_EDGE_INLINE constexpr operator int() const { return kIndex; }
};

// body(Index<0>), ..., body(Index<kCount - 1>).
template <int kCount, class Body>
EFFNET_EDGE_INLINE void unrolled(const Body& body) {
    if constexpr (kCount > 1) unrolled<kCount - 1>(body);
    if constexpr (kCount > 0) body(Index<kCount - 1>{});
}

// What GCC wouldn't do by itself: it spills, within a loop, what the code behind the loop can't
// hold in registers, and it loads a value once per use.
EFFNET_EDGE_INLINE void keep_in_register(__m512i& value) { asm("" : "+v"(value)); }

// 1.5 * 2^23: a float32 between 2^23 and 2^24 has steps of 1, so that adding this rounds to an
// integer, half to even, and leaves it in the low bits.
constexpr float kMagic = 12582912.0f;
constexpr int32_t kMagicBits = 0x4B400000;

// round(sum * scale) + zero point. A fused multiply-add, since a product that was rounded before
// would be rounded twice. `offset` subtracts kMagicBits and adds the zero point, which can't be
// part of kMagic: an odd one would turn half to even into half to odd.
EFFNET_EDGE_INLINE __m512i requantize(__m512 sum, __m512 scale, __m512i offset) {
    const __m512 rounded = _mm512_fmadd_ps(sum, scale, _mm512_set1_ps(kMagic));
    return _mm512_add_epi32(_mm512_castps_si512(rounded), offset);
}

#if defined(__AVX512VBMI__)

// `table`: 4 registers.
EFFNET_EDGE_INLINE __m512i lookup(const __m512i* table, __m512i bytes) {
    const __m512i low = _mm512_permutex2var_epi8(table[0], bytes, table[1]);
    const __m512i high = _mm512_permutex2var_epi8(table[2], bytes, table[3]);
    return _mm512_mask_blend_epi8(_mm512_movepi8_mask(bytes), low, high);
}

#else

// Without a permutation of bytes, permutes the table's 128 pairs of bytes as words, by the upper
// seven bits of the even bytes and of the odd bytes, and then takes one byte of each pair by the
// lowest bit.
EFFNET_EDGE_INLINE __m512i lookup(const __m512i* table, __m512i bytes) {
    const __m512i even_index = _mm512_srli_epi16(bytes, 1);
    const __m512i odd_index = _mm512_srli_epi16(bytes, 9);
    const __mmask32 even_high = _mm512_test_epi16_mask(bytes, _mm512_set1_epi16(0x80));
    const __mmask32 odd_high = _mm512_movepi16_mask(bytes);
    const __m512i even = _mm512_mask_blend_epi16(
        even_high, _mm512_permutex2var_epi16(table[0], even_index, table[1]),
        _mm512_permutex2var_epi16(table[2], even_index, table[3]));
    const __m512i odd =
        _mm512_mask_blend_epi16(odd_high, _mm512_permutex2var_epi16(table[0], odd_index, table[1]),
                                _mm512_permutex2var_epi16(table[2], odd_index, table[3]));
    constexpr __mmask64 kOdd = 0xAAAAAAAAAAAAAAAA;
    const __m512i first = _mm512_mask_blend_epi8(kOdd, even, _mm512_slli_epi16(odd, 8));
    const __m512i second = _mm512_mask_blend_epi8(kOdd, _mm512_srli_epi16(even, 8), odd);
    return _mm512_mask_blend_epi8(_mm512_test_epi8_mask(bytes, _mm512_set1_epi8(1)), first, second);
}

#endif

// 16-bit results of two registers of sums, in each 128-bit lane four of the first and then four of
// the second; `argument` with products only.
struct Words {
    __m512i value;
    __m512i argument;
};

// What is the same for all sums of a stage.
class Epilogue {
  public:
    Epilogue(const Activated& stage, const __m512i* table)
        : kind_(stage.kind),
          table_(table),
          // A product's value is without a zero point.
          offset_(_mm512_set1_epi32((stage.kind == Result::kProduct ? 0 : stage.zero_point) -
                                    kMagicBits)),
          argument_offset_(_mm512_set1_epi32(stage.argument_zero_point - kMagicBits)),
          result_zero_(_mm512_set1_epi16(static_cast<int16_t>(stage.zero_point))) {}

    // The same with the table elsewhere: in local variables, hence in registers.
    EFFNET_EDGE_INLINE Epilogue(const Epilogue& other, const __m512i* table)
        : kind_(other.kind_),
          table_(table),
          offset_(other.offset_),
          argument_offset_(other.argument_offset_),
          result_zero_(other.result_zero_) {}

    bool is_product() const { return kind_ == Result::kProduct; }
    const __m512i* table() const { return table_; }

    // `scale`: of `a` and of `b`; a product's argument has its scales at scale + to_argument.
    EFFNET_EDGE_INLINE Words words(__m512i a, __m512i b, const __m512* scale_a,
                                   const __m512* scale_b, int to_argument) const {
        const __m512 x = _mm512_cvtepi32_ps(a);
        const __m512 y = _mm512_cvtepi32_ps(b);
        Words result;
        result.value =
            _mm512_packs_epi32(requantize(x, *scale_a, offset_), requantize(y, *scale_b, offset_));
        if (kind_ == Result::kProduct) {
            result.argument =
                _mm512_packs_epi32(requantize(x, scale_a[to_argument], argument_offset_),
                                   requantize(y, scale_b[to_argument], argument_offset_));
        } else {
            result.argument = result.value;
        }
        return result;
    }

    // Each 128-bit lane has four bytes of each of the four registers of sums in turn.
    EFFNET_EDGE_INLINE __m512i bytes(const Words& first, const Words& second) const {
        if (kind_ == Result::kProduct) {
            const __m512i sigmoid =
                lookup(table_, _mm512_packus_epi16(first.argument, second.argument));
            const __m512i zero = _mm512_setzero_si512();
            return _mm512_packus_epi16(times(first.value, _mm512_unpacklo_epi8(zero, sigmoid)),
                                       times(second.value, _mm512_unpackhi_epi8(zero, sigmoid)));
        }
        const __m512i bytes = _mm512_packus_epi16(first.value, second.value);
        return kind_ == Result::kLookup ? lookup(table_, bytes) : bytes;
    }

  private:
    // `sigmoid` is in units of 2^-16; as a factor of 2^-15 it must be positive.
    EFFNET_EDGE_INLINE __m512i times(__m512i value, __m512i sigmoid) const {
        const __m512i product = _mm512_mulhrs_epi16(value, _mm512_srli_epi16(sigmoid, 1));
        return _mm512_adds_epi16(product, result_zero_);
    }

    Result kind_;
    const __m512i* table_;
    __m512i offset_;
    __m512i argument_offset_;
    __m512i result_zero_;
};

// Bytes as the epilogue gives them, to the channels of one pixel after the other.
template <int kGroups>
EFFNET_EDGE_INLINE __m512i in_order(__m512i bytes) {
    if constexpr (kGroups == 1) {
        const __m512i order =
            _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
        return _mm512_permutexvar_epi32(order, bytes);
    } else if constexpr (kGroups == 2) {
        return _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7), bytes);
    } else if constexpr (kGroups == 3) {
        const __m512i order =
            _mm512_setr_epi32(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, 3, 7, 11, 15);
        return _mm512_permutexvar_epi32(order, bytes);
    } else {
        return bytes;
    }
}

template <class Header>
const __m512i* table_of(const void* packed, const Header& header) {
    return reinterpret_cast<const __m512i*>(static_cast<const uint8_t*>(packed) + header.table_at);
}

// The first `channels` bytes; all kMost if there are more. Without a mask where none is needed,
// since masked stores of bytes are slow on some cores.
template <int kMost>
EFFNET_EDGE_INLINE void store(uint8_t* out, __m512i bytes, int channels) {
    if (channels < kMost) {
        _mm512_mask_storeu_epi8(out, ~(~__mmask64{0} << channels), bytes);
    } else if constexpr (kMost == 64) {
        _mm512_storeu_si512(out, bytes);
    } else if constexpr (kMost == 16) {
        _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm512_castsi512_si128(bytes));
    } else {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm512_castsi512_si256(bytes));
        if constexpr (kMost == 48) {
            _mm_storeu_si128(reinterpret_cast<__m128i*>(out + 32),
                             _mm512_extracti32x4_epi32(bytes, 2));
        }
    }
}

}  // namespace
}  // namespace effnet_edge::avx512
