// Products without VNNI: pairs of 16-bit numbers, by VPMADDWD. VPMADDUBSW would take bytes, but
// saturates: 255 * 127 * 2 is more than 16 bits hold.
#pragma once

#include "avx2_group.h"

namespace effnet_edge {
namespace {

struct Multiply {
    using Weight = int16_t;
    static constexpr int kTerms = 2;         // products that one 32-bit lane adds
    static constexpr int kMostDepth = 2048;  // that a tile holds at a time

    static __m256i multiply_add(__m256i sums, __m256i inputs, __m256i weights) {
#if defined(__clang__)
        sums = _mm256_add_epi32(sums, _mm256_madd_epi16(inputs, weights));
#else
        // GCC reorders additions, products of different steps first, and for want of registers
        // keeps the sums in memory. These it doesn't understand.
        __m256i products;
        __asm__("vpmaddwd %3, %2, %1\n\tvpaddd %1, %0, %0"
                : "+x"(sums), "=&x"(products)
                : "x"(inputs), "xm"(weights));
#endif
        return sums;
    }

    // Pixels of a tile, widened to 16 bits once for all channels.
    template <int kPixels>
    struct Tile {
        alignas(64) int16_t words[kPixels * kMostDepth];
        size_t pitch = 0;

        const uint8_t* begin() const { return reinterpret_cast<const uint8_t*>(words); }

        void read(const uint8_t* in, size_t stride, int pixels, int depth) {
            pitch = depth * sizeof(int16_t);
            for (int p = 0; p < pixels; ++p) {
                const uint8_t* from = in + p * stride;
                int16_t* to = words + p * depth;
                int k = 0;
                for (; k + 16 <= depth; k += 16) store(to + k, load_words(from + k));
                if (k < depth) {
                    const auto* last = reinterpret_cast<const __m128i*>(from + k);
                    store_half(to + k, _mm_cvtepu8_epi16(_mm_loadl_epi64(last)));
                }
            }
        }
    };
};

// 32 features and weights of a class.
inline __m256i multiply_bytes(__m256i sums, const uint8_t* features, const int8_t* weights) {
    for (int i = 0; i < 32; i += 16) {
        sums = Multiply::multiply_add(sums, load_words(features + i),
                                      _mm256_cvtepi8_epi16(load_half(weights + i)));
    }
    return sums;
}

// The columns of a depthwise convolution, kKernel rows of 16 channels each: rows 0 and 1 are
// interleaved as pairs, rows 2 and 3 likewise; in the last row neighbouring columns make pairs.
template <int kKernel, int kStride>
struct Columns {
    static constexpr int kRowPairs = kKernel / 2;
    static constexpr int kColumnPairs = (kKernel + 1) / 2;
    static constexpr int kVectors = 2 * (kRowPairs * kKernel + kColumnPairs);

    // The taps that a lane of a pair of vectors (for the halves of a group) multiplies; -1: none.
    static void taps_of(int vector_pair, int (&taps)[2]) {
        if (vector_pair < kRowPairs * kKernel) {
            taps[0] = vector_pair / kKernel * 2 * kKernel + vector_pair % kKernel;
            taps[1] = taps[0] + kKernel;
        } else {
            const int column = (vector_pair - kRowPairs * kKernel) * 2;
            taps[0] = (kKernel - 1) * kKernel + column;
            taps[1] = column + 1 < kKernel ? taps[0] + 1 : -1;
        }
    }

    // Adds columns kStride * t to kStride * t + kStride - 1 to the outputs t - q, q from kBegin to
    // kEnd - 1, whose sums are sums[q]. No column behind `last` is read.
    template <int kBegin, int kEnd, int kOutputs>
    [[gnu::always_inline]] static inline void add(const uint8_t* const* rows, size_t stride, int t,
                                                  int last, const uint8_t* weights,
                                                  __m256i (&sums)[kOutputs][2]) {
#pragma GCC unroll 2
        for (int s = 0; s < kStride; ++s) {
            const int column = kStride * t + s;
            const size_t at = (column < last ? column : last) * stride;
#pragma GCC unroll 2
            for (int pair = 0; pair < kRowPairs; ++pair) {
                accumulate<kBegin, kEnd>(load_words(rows[2 * pair] + at),
                                         load_words(rows[2 * pair + 1] + at),
                                         weights + pair * kKernel * 64, s, 1, sums);
            }
            if (s == 0) {
                const size_t next = (column + 1 < last ? column + 1 : last) * stride;
                accumulate<kBegin, kEnd>(load_words(rows[kKernel - 1] + at),
                                         load_words(rows[kKernel - 1] + next),
                                         weights + kRowPairs * kKernel * 64, 0, 2, sums);
            }
        }
    }

  private:
    // In output q the pair is at kernel column kStride * q + s. Every `step`-th column has weights.
    template <int kBegin, int kEnd, int kOutputs>
    [[gnu::always_inline]] static inline void accumulate(__m256i first, __m256i second,
                                                         const uint8_t* weights, int s, int step,
                                                         __m256i (&sums)[kOutputs][2]) {
        const __m256i low = _mm256_unpacklo_epi16(first, second);
        const __m256i high = _mm256_unpackhi_epi16(first, second);
#pragma GCC unroll 5
        for (int q = kBegin; q < kEnd; ++q) {
            const int column = kStride * q + s;
            if (column >= kKernel || column % step != 0) continue;
            const uint8_t* at = weights + column / step * 64;
            sums[q][0] = Multiply::multiply_add(sums[q][0], low, load(at));
            sums[q][1] = Multiply::multiply_add(sums[q][1], high, load(at + 32));
        }
    }
};

}  // namespace
}  // namespace effnet_edge
