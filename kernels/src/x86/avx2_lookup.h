// A table of 256 bytes, looked up 32 bytes at a time with no more than 16-byte shuffles.
//
// Any table can be had from its 16 rows of 16: 46 instructions. An activation function is smoother
// than that: within most rows it is a straight line, give or take a step. Such a table is kept as a
// line for each row, one bit or two for each entry, and in full the few rows that bend more, at the
// knee: 21 instructions, 11 more for the second bit, 4 for each such row. Either form gives the
// table's own bytes, always.
#pragma once

#include "avx2_group.h"

namespace effnet_edge {
namespace {

constexpr int kTableBytes = 256;
constexpr int kRow = 16;
constexpr int kHalfTable = kTableBytes / 2;
constexpr int kMostBends = 2;

// A bit for each entry: of entry l of row r bit r % 8 of byte l, in the first array for rows 0
// to 7.
struct Bits {
    uint8_t lower[kRow], upper[kRow];
};

struct alignas(64) PackedTable {
    bool lines;  // which form it has
    bool two_bits;
    int bends;
    uint8_t row_of_bend[kMostBends];  // its first byte, 16 * row
    int8_t base[kRow];                // entry l of row r: base[r] + l * slope[r] / 32, rounded down
    int8_t slope[kRow];
    Bits ones, twos;                 // plus one, plus two
    uint8_t bend[kMostBends][kRow];  // plus this in the rows that bend, whose base and slope are 0
    uint8_t rows[kTableBytes];       // the other form: see look_up_rows
};

inline __m256i load_row(const void* row) { return _mm256_broadcastsi128_si256(load_half(row)); }

// VPSHUFB gives row[index % 16], or zero where the index has its top bit set. For a byte below 128
// row r, looked up 16 r lower, takes part if the byte is 16 r or more: the difference is negative
// otherwise. Rows are stored XORed with the row before, so what takes part telescopes to the row
// that is meant. Bytes from 128 on do the same, 128 lower, with the other eight rows.
template <int kVectors>
inline void look_up_half(const uint8_t* rows, __m256i (&index)[kVectors],
                         __m256i (&result)[kVectors]) {
#pragma GCC unroll 8
    for (int row = 0; row < kHalfTable / kRow; ++row) {
        const __m256i values = load_row(rows + row * kRow);
#pragma GCC unroll 4
        for (int i = 0; i < kVectors; ++i) {
            if (row > 0) index[i] = _mm256_subs_epi8(index[i], _mm256_set1_epi8(kRow));
            result[i] = _mm256_xor_si256(result[i], _mm256_shuffle_epi8(values, index[i]));
        }
    }
}

template <int kVectors>
inline void look_up_rows(const PackedTable& table, __m256i (&bytes)[kVectors]) {
    __m256i index[kVectors], upper[kVectors], result[kVectors];
#pragma GCC unroll 4
    for (int i = 0; i < kVectors; ++i) {
        index[i] = bytes[i];
        upper[i] = _mm256_xor_si256(bytes[i], _mm256_set1_epi8(-128));
        result[i] = _mm256_setzero_si256();
    }
    look_up_half(table.rows, index, result);
    look_up_half(table.rows + kHalfTable, upper, result);
#pragma GCC unroll 4
    for (int i = 0; i < kVectors; ++i) bytes[i] = result[i];
}

inline __m256i row_of(__m256i bytes) {
    return _mm256_and_si256(_mm256_srli_epi16(bytes, 4), _mm256_set1_epi8(15));
}

// Minus one where the bit is set.
inline __m256i look_up_bits(const Bits& bits, __m256i bytes, __m256i row) {
    const __m256i upper_index = _mm256_xor_si256(bytes, _mm256_set1_epi8(-128));
    const __m256i found = _mm256_or_si256(_mm256_shuffle_epi8(load_row(bits.lower), bytes),
                                          _mm256_shuffle_epi8(load_row(bits.upper), upper_index));
    const __m256i bit =
        _mm256_shuffle_epi8(_mm256_set1_epi64x(static_cast<int64_t>(0x8040201008040201)), row);
    return _mm256_cmpeq_epi8(_mm256_and_si256(found, bit), bit);
}

inline __m256i look_up_lines(const PackedTable& table, __m256i bytes) {
    const __m256i row = row_of(bytes);
    const __m256i slope = _mm256_shuffle_epi8(load_row(table.slope), row);
    // 8 l in the even bytes, then in the odd ones; the products' high bytes are what is wanted.
    const __m256i shifted = _mm256_slli_epi16(bytes, 3);
    const __m256i even =
        _mm256_maddubs_epi16(_mm256_and_si256(shifted, _mm256_set1_epi16(0x0078)), slope);
    const __m256i odd =
        _mm256_maddubs_epi16(_mm256_and_si256(shifted, _mm256_set1_epi16(0x7800)), slope);
    const __m256i rise =
        _mm256_or_si256(_mm256_srli_epi16(even, 8),
                        _mm256_and_si256(odd, _mm256_set1_epi16(static_cast<int16_t>(0xFF00))));
    const __m256i base = _mm256_shuffle_epi8(load_row(table.base), row);
    return _mm256_sub_epi8(_mm256_add_epi8(base, rise), look_up_bits(table.ones, bytes, row));
}

inline __m256i look_up_twos(const PackedTable& table, __m256i bytes) {
    const __m256i minus_one = look_up_bits(table.twos, bytes, row_of(bytes));
    return _mm256_sub_epi8(_mm256_setzero_si256(), _mm256_add_epi8(minus_one, minus_one));
}

// A byte of the row differs from its first in 0 to 15; any other in 16 or more, which 0x70 makes
// negative.
inline __m256i look_up_bend(const PackedTable& table, int bend, __m256i bytes) {
    const __m256i from_row =
        _mm256_xor_si256(bytes, _mm256_set1_epi8(static_cast<char>(table.row_of_bend[bend])));
    return _mm256_shuffle_epi8(load_row(table.bend[bend]),
                               _mm256_adds_epu8(from_row, _mm256_set1_epi8(0x70)));
}

template <int kVectors>
inline void look_up(const PackedTable& table, __m256i (&bytes)[kVectors]) {
    if (!table.lines) {
        look_up_rows(table, bytes);
        return;
    }
    __m256i result[kVectors];
#pragma GCC unroll 4
    for (int i = 0; i < kVectors; ++i) result[i] = look_up_lines(table, bytes[i]);
    if (table.two_bits) {
#pragma GCC unroll 4
        for (int i = 0; i < kVectors; ++i) {
            result[i] = _mm256_add_epi8(result[i], look_up_twos(table, bytes[i]));
        }
    }
    for (int bend = 0; bend < table.bends; ++bend) {
#pragma GCC unroll 4
        for (int i = 0; i < kVectors; ++i) {
            result[i] = _mm256_add_epi8(result[i], look_up_bend(table, bend, bytes[i]));
        }
    }
#pragma GCC unroll 4
    for (int i = 0; i < kVectors; ++i) bytes[i] = result[i];
}

}  // namespace
}  // namespace effnet_edge
