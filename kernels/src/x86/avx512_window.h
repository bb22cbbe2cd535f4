// Windows that slide along the rows of a depthwise convolution, four taps per instruction.
//
// The bytes of four rows of one column are interleaved, so that each 32-bit lane has a channel's
// four vertical taps: 4 registers ("quarters") per column and 64 channels, which serve all outputs
// that the column takes part in. A 3x3 kernel leaves one of the four rows over; with stride 1, it
// serves the output row below. A 5x5 kernel's last row is interleaved horizontally instead, four
// columns at a time, which leaves one tap over.
//
// A window has two of the quarters, kBegin and the next, since more wouldn't leave registers for
// the weights: kVectors of each quarter.
//
// Included by one source file per instruction set; everything here is local to it.
#pragma once

#include "avx512_epilogue.h"

namespace effnet_edge::avx512 {
namespace {

// Where the segments of a row begin. The last ones may overlap those before, to end with the row:
// the first `repeated` positions of a segment are computed by another, too.
struct Segments {
    int length;
    int repeated[4];
    int most_repeated;
    size_t in[4];  // bytes from the first segment
    size_t out[4];
};

template <int kSegments>
EFFNET_EDGE_INLINE __m512i load(const uint8_t* in, const Segments& segments) {
    if constexpr (kSegments == 1) {
        return _mm512_loadu_si512(in);
    } else if constexpr (kSegments == 2) {
        const auto half = [&](int s) {
            return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(in + segments.in[s]));
        };
        return _mm512_inserti64x4(_mm512_castsi256_si512(half(0)), half(1), 1);
    } else {
        const auto quarter = [&](int s) {
            return _mm_loadu_si128(reinterpret_cast<const __m128i*>(in + segments.in[s]));
        };
        __m512i all = _mm512_castsi128_si512(quarter(0));
        all = _mm512_inserti32x4(all, quarter(1), 1);
        all = _mm512_inserti32x4(all, quarter(2), 2);
        return _mm512_inserti32x4(all, quarter(3), 3);
    }
}

// Bytes of quarters 0 and 1, or 2 and 3.
template <int kBegin>
EFFNET_EDGE_INLINE __m512i interleave(__m512i a, __m512i b) {
    return kBegin == 0 ? _mm512_unpacklo_epi8(a, b) : _mm512_unpackhi_epi8(a, b);
}

struct Quarters {
    __m512i of[2] = {};

    Quarters() = default;
    EFFNET_EDGE_INLINE Quarters(__m512i ab, __m512i cd)
        : of{_mm512_unpacklo_epi16(ab, cd), _mm512_unpackhi_epi16(ab, cd)} {}

    EFFNET_EDGE_INLINE void multiply_add(const __m512i (&weights)[2], __m512i (&sums)[2]) const {
        sums[0] = _mm512_dpbusd_epi32(sums[0], of[0], weights[0]);
        sums[1] = _mm512_dpbusd_epi32(sums[1], of[1], weights[1]);
    }
};

// Vectors: the kernel's columns; with stride 1, again for the output row below.
template <int kStride, int kRowsOut, int kSegments, int kFirst>
class Window3x3 {
  public:
    static constexpr int kRows = kRowsOut;
    static constexpr int kBegin = kFirst;
    static constexpr int kVectors = 3 * kRows;

    // Stands before the first output, which `next` goes to.
    EFFNET_EDGE_INLINE Window3x3(const uint8_t* const* rows, size_t offset, size_t in_stride,
                                 const Segments& segments)
        : rows_(rows), offset_(offset), in_stride_(in_stride), segments_(segments) {
        unrolled<3 - kStride>([&](auto) EFFNET_EDGE_LAMBDA { push(); });
    }

    EFFNET_EDGE_INLINE void next() {
        unrolled<kStride>([&](auto) EFFNET_EDGE_LAMBDA { push(); });
    }

    // The products of output row kRow.
    template <int kRow>
    EFFNET_EDGE_INLINE void add(const __m512i (&weights)[kVectors][2], __m512i (&sums)[2]) const {
        unrolled<3>([&](auto x) EFFNET_EDGE_LAMBDA {
            column_[x].multiply_add(weights[3 * kRow + x], sums);
        });
    }

  private:
    EFFNET_EDGE_INLINE void push() {
        const auto row = [&](int i) EFFNET_EDGE_LAMBDA {
            return load<kSegments>(rows_[i] + offset_, segments_);
        };
        const __m512i third = row(2);
        const __m512i fourth = kRows == 2 ? row(3) : third;  // third: times 0
        column_[0] = column_[1];
        column_[1] = column_[2];
        column_[2] =
            Quarters(interleave<kBegin>(row(0), row(1)), interleave<kBegin>(third, fourth));
        offset_ += in_stride_;
    }

    const uint8_t* const* rows_;
    size_t offset_;
    size_t in_stride_;
    const Segments& segments_;
    Quarters column_[3];
};

// Vectors: the kernel's columns without their last tap; four taps of the last row, the first ones
// with stride 1, the last ones with stride 2; the fifth tap, as the last byte of four.
template <int kStride, int kSegments, int kFirst>
class Window5x5 {
  public:
    static constexpr int kRows = 1;
    static constexpr int kBegin = kFirst;
    static constexpr int kVectors = 7;

    EFFNET_EDGE_INLINE Window5x5(const uint8_t* const* rows, size_t offset, size_t in_stride,
                                 const Segments& segments)
        : rows_(rows), offset_(offset), in_stride_(in_stride), segments_(segments) {
        if constexpr (kStride == 1) {
            unrolled<4>([&](auto) EFFNET_EDGE_LAMBDA { next(); });
        } else {
            const __m512i first = push();
            push_pair(first, first);
            push_four(pair_[2], pair_[2]);
            next();
        }
    }

    EFFNET_EDGE_INLINE void next() {
        if constexpr (kStride == 1) {
            const __m512i newest = push();
            push_pair(newest_, newest);
            newest_ = newest;
            push_four(pair_[0], pair_[2]);
        } else {
            const __m512i a = push();
            const __m512i b = push();
            push_pair(a, b);
            push_four(pair_[1], pair_[2]);
        }
    }

    template <int kRow>
    EFFNET_EDGE_INLINE void add(const __m512i (&weights)[kVectors][2], __m512i (&sums)[2]) const {
        unrolled<5>([&](auto x) EFFNET_EDGE_LAMBDA { column_[x].multiply_add(weights[x], sums); });
        // Of the output's columns 0 to 4, stride 1: four_[1] has 0 to 3, four_[2] ends with 4.
        // Stride 2: four_[2] has 1 to 4, and four_[0], that of two outputs ago, ends with 0.
        four_[kStride].multiply_add(weights[5], sums);
        four_[kStride == 1 ? 2 : 0].multiply_add(weights[6], sums);
    }

  private:
    // Returns the last row's column.
    EFFNET_EDGE_INLINE __m512i push() {
        const auto row = [&](int i) EFFNET_EDGE_LAMBDA {
            return load<kSegments>(rows_[i] + offset_, segments_);
        };
        unrolled<4>([&](auto x) EFFNET_EDGE_LAMBDA { column_[x] = column_[x + 1]; });
        column_[4] =
            Quarters(interleave<kBegin>(row(0), row(1)), interleave<kBegin>(row(2), row(3)));
        const __m512i last = row(4);
        offset_ += in_stride_;
        return last;
    }

    EFFNET_EDGE_INLINE void push_pair(__m512i a, __m512i b) {
        pair_[0] = pair_[1];
        pair_[1] = pair_[2];
        pair_[2] = interleave<kBegin>(a, b);
    }

    EFFNET_EDGE_INLINE void push_four(__m512i a, __m512i b) {
        four_[0] = four_[1];
        four_[1] = four_[2];
        four_[2] = Quarters(a, b);
    }

    const uint8_t* const* rows_;
    size_t offset_;
    size_t in_stride_;
    const Segments& segments_;
    Quarters column_[5];
    // The last row's newest column, and its columns interleaved, two or four at a time.
    __m512i newest_ = {};
    __m512i pair_[3] = {};
    Quarters four_[3];
};

}  // namespace
}  // namespace effnet_edge::avx512
