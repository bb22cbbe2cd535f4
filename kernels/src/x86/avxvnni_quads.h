// Products with VNNI: quads of bytes, by VPDPBUSD. The counterpart of avx2_words.h.
#pragma once

#include "avx2_group.h"

namespace effnet_edge {
namespace {

struct Multiply {
    using Weight = int8_t;
    static constexpr int kTerms = 4;  // products that one 32-bit lane adds
    static constexpr int kMostDepth = 1 << 30;

    static __m256i multiply_add(__m256i sums, __m256i inputs, __m256i weights) {
#if defined(EFFNET_EDGE_EVEX)  // the same instruction as AVX-512 encodes it: for tests
        return _mm256_dpbusd_epi32(sums, inputs, weights);
#else
        return _mm256_dpbusd_avx_epi32(sums, inputs, weights);
#endif
    }

    // Pixels of a tile, where they are.
    template <int kPixels>
    struct Tile {
        const uint8_t* in = nullptr;
        size_t pitch = 0;

        const uint8_t* begin() const { return in; }
        void read(const uint8_t* from, size_t stride, int, int) {
            in = from;
            pitch = stride;
        }
    };
};

// 32 features and weights of a class.
inline __m256i multiply_bytes(__m256i sums, const uint8_t* features, const int8_t* weights) {
    return Multiply::multiply_add(sums, load(features), load(weights));
}

// The columns of a depthwise convolution, kKernel rows of 16 channels each: rows 0 to 3 are
// interleaved as quads, then the rest; a missing row has weights of zero.
template <int kKernel, int kStride>
struct Columns {
    static constexpr int kQuads = (kKernel + 3) / 4;
    static constexpr int kVectors = 2 * kQuads * kKernel;

    // The taps that a lane of a pair of vectors (for the halves of a group) multiplies; -1: none.
    static void taps_of(int vector_pair, int (&taps)[4]) {
        for (int i = 0; i < 4; ++i) {
            const int row = vector_pair / kKernel * 4 + i;
            taps[i] = row < kKernel ? row * kKernel + vector_pair % kKernel : -1;
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
            for (int quad = 0; quad < kQuads; ++quad) {
                const __m256i first = load_pair(rows, 4 * quad, at);
                const __m256i second = load_pair(rows, 4 * quad + 2, at);
                const __m256i low = _mm256_unpacklo_epi16(first, second);
                const __m256i high = _mm256_unpackhi_epi16(first, second);
#pragma GCC unroll 5
                for (int q = kBegin; q < kEnd; ++q) {
                    const int kernel_column = kStride * q + s;
                    if (kernel_column >= kKernel) continue;
                    const uint8_t* from = weights + (quad * kKernel + kernel_column) * 64;
                    sums[q][0] = Multiply::multiply_add(sums[q][0], low, load(from));
                    sums[q][1] = Multiply::multiply_add(sums[q][1], high, load(from + 32));
                }
            }
        }
    }

  private:
    // Rows `row` and `row + 1` as the low and high bytes of 16-bit lanes.
    [[gnu::always_inline]] static inline __m256i load_pair(const uint8_t* const* rows, int row,
                                                           size_t at) {
        if (row >= kKernel) return _mm256_setzero_si256();
        const __m256i low = load_words(rows[row] + at);
        if (row + 1 >= kKernel) return low;
        return _mm256_or_si256(low, _mm256_slli_epi16(load_words(rows[row + 1] + at), 8));
    }
};

}  // namespace
}  // namespace effnet_edge
