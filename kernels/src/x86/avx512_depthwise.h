// Depthwise convolution: the windows of avx512_window.h slide along rows of one unit of channels.
//
// Included by one source file per instruction set; everything here is local to it.
#pragma once

#include <cstring>

#include "avx512_window.h"

namespace effnet_edge::avx512 {
namespace {

// Positions of a row that are computed at a time. Sums of bytes have 16 bits until then, and where a
// window has half of the quarters, the first half's results wait in L1.
constexpr int kBlock = 32;

struct Depthwise {
    DepthwisePanel panel;
    Epilogue epilogue;
    Segments segments;
    size_t in_stride;
    size_t out_stride;
    size_t out_row_stride;
};

inline Segments split(int count, int stride, const DepthwiseRun& run) {
    Segments segments{(run.width + count - 1) / count, {}, 0, {}, {}};
    for (int s = 0; s < count; ++s) {
        const int last = run.width - segments.length;
        const int begin = s * segments.length < last ? s * segments.length : last;
        segments.repeated[s] = s * segments.length - begin;
        segments.most_repeated = segments.repeated[s];
        segments.in[s] = static_cast<size_t>(begin) * stride * run.in_stride;
        segments.out[s] = begin * run.out_stride;
    }
    return segments;
}

// Which bytes of position `x` no other segment computes.
template <int kSegments>
inline __mmask64 not_repeated(const Segments& segments, int x) {
    constexpr int kBytes = 64 / kSegments;
    __mmask64 mask = 0;
    for (int s = 0; s < kSegments; ++s) {
        if (x >= segments.repeated[s]) mask |= (~__mmask64{0} >> (64 - kBytes)) << (s * kBytes);
    }
    return mask;
}

template <int kSegments>
EFFNET_EDGE_INLINE void store_segments(uint8_t* out, __m512i bytes, int channels,
                                       const Segments& segments) {
    const size_t* to = segments.out;
    if constexpr (kSegments == 1) {
        if (channels == 48) store<48>(out, bytes, 48);
        else store<64>(out, bytes, 64);
    } else if constexpr (kSegments == 2) {
        store<32>(out, bytes, 32);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + to[1]),
                            _mm512_extracti64x4_epi64(bytes, 1));
    } else {
        const auto quarter = [&](int s, __m128i part) {
            _mm_storeu_si128(reinterpret_cast<__m128i*>(out + to[s]), part);
        };
        quarter(0, _mm512_castsi512_si128(bytes));
        quarter(1, _mm512_extracti32x4_epi32(bytes, 1));
        quarter(2, _mm512_extracti32x4_epi32(bytes, 2));
        quarter(3, _mm512_extracti32x4_epi32(bytes, 3));
    }
}

// Sums of bytes in 16 bits: one of all bytes, where odd ones count 256 times, and one of the odd bytes.
struct ByteSums {
    __m512i all = _mm512_setzero_si512();
    __m512i odd = _mm512_setzero_si512();

    EFFNET_EDGE_INLINE void add(__m512i bytes) {
        all = _mm512_add_epi16(all, bytes);
        odd = _mm512_add_epi16(odd, _mm512_srli_epi16(bytes, 8));
    }

    // Byte i's sum is added to totals[i % 4][i / 4]. Right for up to 257 bytes.
    void flush(__m512i* totals) const {
        const __m512i even = _mm512_sub_epi16(all, _mm512_slli_epi16(odd, 8));
        const __m512i low = _mm512_set1_epi32(0xFFFF);
        totals[0] = _mm512_add_epi32(totals[0], _mm512_and_si512(even, low));
        totals[1] = _mm512_add_epi32(totals[1], _mm512_and_si512(odd, low));
        totals[2] = _mm512_add_epi32(totals[2], _mm512_srli_epi32(even, 16));
        totals[3] = _mm512_add_epi32(totals[3], _mm512_srli_epi32(odd, 16));
    }
};

// Positions begin .. begin + count - 1 of the segments of Window::kRows output rows. A window of the
// first half leaves 16-bit results in `half`, one of the second half completes them.
template <class Window, int kSegments>
void slide(const Depthwise& stage, const uint8_t* const* rows, int stride, int begin, int count,
           Words (*half)[Window::kRows], uint8_t* out, __m512i* totals) {
    constexpr int kRows = Window::kRows;
    constexpr int kBegin = Window::kBegin;
    constexpr int kQuarters = Window::kQuarters;
    // In local variables, as far as they go in registers: whatever is elsewhere would be loaded anew
    // for each position, since for all that the compiler knows, storing bytes may have changed it.
    const Segments segments = stage.segments;
    const int channels = stage.panel.channels;
    const size_t out_stride = stage.out_stride, out_row_stride = stage.out_row_stride;
    __m512i weights[Window::kVectors][kQuarters];
    unrolled<Window::kVectors>([&](auto v) EFFNET_EDGE_LAMBDA {
        unrolled<kQuarters>([&](auto q) EFFNET_EDGE_LAMBDA {
            weights[v][q] =
                _mm512_load_si512(stage.panel.weight + (v * 4 + kBegin + q) * kVector);
        });
    });
    __m512i bias[kQuarters];
    __m512 scale[2 * kQuarters];
    const int to_argument = stage.epilogue.is_product() ? 4 : 0;
    unrolled<kQuarters>([&](auto q) EFFNET_EDGE_LAMBDA {
        bias[q] = _mm512_load_si512(stage.panel.bias + (kBegin + q) * kGroup);
        scale[q] = _mm512_load_ps(stage.panel.scale + (kBegin + q) * kGroup);
        scale[kQuarters + q] = _mm512_load_ps(stage.panel.scale + (to_argument + kBegin + q) * kGroup);
    });
    __m512i table[4];
    unrolled<4>([&](auto i) EFFNET_EDGE_LAMBDA { table[i] = stage.epilogue.table()[i]; });
    const Epilogue epilogue(stage.epilogue, table);

    ByteSums byte_sums;
    Window window(rows, static_cast<size_t>(begin) * stride * stage.in_stride, stage.in_stride,
                  segments);
    out += begin * out_stride;
    for (int x = 0; x < count; ++x, out += out_stride) {
        window.next();
        __m512i sums[kRows][kQuarters];
        unrolled<kRows>([&](auto r) EFFNET_EDGE_LAMBDA {
            unrolled<kQuarters>([&](auto q) EFFNET_EDGE_LAMBDA { sums[r][q] = bias[q]; });
        });
        window.add(weights, sums);
        unrolled<kRows>([&](auto r) EFFNET_EDGE_LAMBDA {
            const auto words = [&](auto q) EFFNET_EDGE_LAMBDA {
                return epilogue.words(sums[r][q], sums[r][q + 1], scale + q, scale + q + 1, kQuarters);
            };
            if constexpr (kBegin + kQuarters < 4) {
                const Words result = words(Index<0>{});
                half[x][r].value = result.value;
                if (epilogue.is_product()) half[x][r].argument = result.argument;
            } else {
                __m512i bytes;
                if constexpr (kQuarters == 4) {
                    bytes = epilogue.bytes(words(Index<0>{}), words(Index<2>{}));
                } else {
                    const __m512i value = half[x][r].value;
                    bytes = epilogue.bytes(
                        {value, epilogue.is_product() ? half[x][r].argument : value},
                        words(Index<0>{}));
                }
                store_segments<kSegments>(out + r * out_row_stride, bytes, channels, segments);
                if (kSegments > 1 && begin + x < segments.most_repeated) {
                    const __mmask64 once = not_repeated<kSegments>(segments, begin + x);
                    byte_sums.add(_mm512_maskz_mov_epi8(once, bytes));
                } else {
                    byte_sums.add(bytes);
                }
            }
        });
    }
    if constexpr (kBegin + kQuarters == 4) byte_sums.flush(totals);
}

// A block of one output row, or of two where the window has two.
template <int kKernel, int kStride, int kSegments>
void run_block(const Depthwise& stage, const uint8_t* const* rows, int output_rows, int begin,
               int count, uint8_t* out, __m512i* totals) {
    if constexpr (kKernel == 5) {
        Words half[kBlock][1];
        slide<Window5x5<kStride, kSegments, 0>, kSegments>(stage, rows, kStride, begin, count, half,
                                                           out, totals);
        slide<Window5x5<kStride, kSegments, 2>, kSegments>(stage, rows, kStride, begin, count, half,
                                                           out, totals);
        return;
    }
    if constexpr (kStride == 1) {
        if (output_rows == 2) {
            Words half[kBlock][2];
            slide<Window3x3<1, 2, kSegments, 0, 2>, kSegments>(stage, rows, 1, begin, count, half, out,
                                                               totals);
            slide<Window3x3<1, 2, kSegments, 2, 2>, kSegments>(stage, rows, 1, begin, count, half, out,
                                                               totals);
            return;
        }
    }
    slide<Window3x3<kStride, 1, kSegments, 0, 4>, kSegments>(stage, rows, kStride, begin, count,
                                                             nullptr, out, totals);
}

template <int kKernel, int kStride, int kSegments>
void run_rows(const Depthwise& stage, const DepthwiseRun& run, __m512i* totals) {
    const int length = stage.segments.length;
    uint8_t* out = run.out;
    for (int r = 0; r < run.rows;) {
        const int output_rows = kKernel == 3 && kStride == 1 && r + 1 < run.rows ? 2 : 1;
        for (int begin = 0; begin < length; begin += kBlock) {
            const int count = length - begin < kBlock ? length - begin : kBlock;
            run_block<kKernel, kStride, kSegments>(stage, run.in + r * kStride, output_rows, begin,
                                                   count, out, totals);
        }
        r += output_rows;
        out += output_rows * run.out_row_stride;
    }
}

template <int kSegments>
void run_windows(int kernel, int stride, const Depthwise& stage, const DepthwiseRun& run) {
    alignas(64) int32_t totals[4][16] = {};
    auto* registers = reinterpret_cast<__m512i*>(totals);
    if (kernel == 3) {
        if (stride == 1) run_rows<3, 1, kSegments>(stage, run, registers);
        else run_rows<3, 2, kSegments>(stage, run, registers);
    } else {
        if (stride == 1) run_rows<5, 1, kSegments>(stage, run, registers);
        else run_rows<5, 2, kSegments>(stage, run, registers);
    }
    if (run.sums == nullptr) return;
    const int channels = stage.panel.channels;
    for (int i = 0; i < channels * kSegments; ++i) run.sums[i % channels] += totals[i % 4][i / 4];
}

// Any other kernel: 16 channels at a time, one tap at a time. No EfficientNet has one.
inline void run_general(int kernel, int stride, const Depthwise& stage, const DepthwiseRun& run) {
    const int taps = kernel * kernel;
    for (int c = 0; c < stage.panel.channels; c += kGroup) {
        const auto* weight = reinterpret_cast<const int32_t*>(stage.panel.weight) + c * taps;
        const auto* scale = reinterpret_cast<const __m512*>(stage.panel.scale + c);
        for (int i = 0; i < run.rows * run.width; ++i) {
            const int r = i / run.width, x = i % run.width;
            __m512i sum = _mm512_load_si512(stage.panel.bias + c);
            for (int t = 0; t < taps; ++t) {
                const uint8_t* in = run.in[r * stride + t / kernel] +
                                    (x * stride + t % kernel) * run.in_stride + c;
                const __m512i bytes =
                    _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(in)));
                sum = _mm512_add_epi32(
                    sum, _mm512_mullo_epi32(bytes, _mm512_load_si512(weight + t * kGroup)));
            }
            const Words words = stage.epilogue.words(sum, sum, scale, scale, kPanel / kGroup);
            uint8_t* out = run.out + r * run.out_row_stride + x * run.out_stride + c;
            store<16>(out, in_order<1>(stage.epilogue.bytes(words, words)), kGroup);
            if (run.sums == nullptr) continue;
            for (int j = 0; j < kGroup; ++j) run.sums[c + j] += out[j];
        }
    }
}

inline void run_depthwise(const void* packed, const DepthwiseRun& run) {
    const auto& header = *static_cast<const DepthwiseHeader*>(packed);
    const DepthwisePanel panel = depthwise_panel(packed, header, run.panel);
    const int segments = segments_of(panel.channels);
    const Depthwise stage{
        panel,
        Epilogue(header.activated, table_of(packed, header)),
        split(segments, header.stride, run),
        run.in_stride,
        run.out_stride,
        run.out_row_stride};
    if (depthwise_vectors(header.kernel, header.stride) == 0) {
        run_general(header.kernel, header.stride, stage, run);
    } else if (segments == 1) {
        run_windows<1>(header.kernel, header.stride, stage, run);
    } else if (segments == 2) {
        run_windows<2>(header.kernel, header.stride, stage, run);
    } else {
        run_windows<4>(header.kernel, header.stride, stage, run);
    }
}

}  // namespace
}  // namespace effnet_edge::avx512
