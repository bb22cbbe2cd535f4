// Depthwise convolution: the windows of avx512_window.h slide along rows of one panel.
//
// Included by one source file per instruction set; everything here is local to it.
#pragma once

#include "avx512_window.h"

namespace effnet_edge::avx512 {
namespace {

// Positions that are computed at a time, of one row or of several: 16-bit results wait in L1, and
// sums of bytes have 16 bits.
constexpr int kBlock = 64;

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
        if (channels == 48)
            store<48>(out, bytes, 48);
        else
            store<64>(out, bytes, 64);
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

// Sums of bytes in 16 bits: one of all bytes, where odd ones count 256 times, and one of the odd
// bytes.
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

// Positions begin .. begin + count - 1 of the segments of some rows; the first input and output
// rows.
struct Block {
    const uint8_t* const* in;
    uint8_t* out;
    int rows;
    int begin;
    int count;
};

// 16-bit results of two quarters of each position of a block, in the order in which the window
// comes to them: that of Window::kRows rows, position by position.
template <class Window>
void slide(const Depthwise& stage, int stride, const Block& block, Words* half) {
    constexpr int kRows = Window::kRows;
    constexpr int kBegin = Window::kBegin;
    const DepthwisePanel& panel = stage.panel;
    // In local variables, as far as they go in registers: what is in memory would be loaded anew
    // for each position, since for all that the compiler knows, storing bytes may have changed it.
    const Segments segments = stage.segments;
    const Epilogue epilogue = stage.epilogue;
    __m512i weights[Window::kVectors][2];
    __m512i bias[2];
    __m512 scale[4];
    const int to_argument = epilogue.is_product() ? 4 : 0;
    unrolled<2>([&](auto q) EFFNET_EDGE_LAMBDA {
        unrolled<Window::kVectors>([&](auto v) EFFNET_EDGE_LAMBDA {
            weights[v][q] = _mm512_load_si512(panel.weight + (v * 4 + kBegin + q) * kVector);
        });
        bias[q] = _mm512_load_si512(panel.bias + (kBegin + q) * kGroup);
        scale[q] = _mm512_load_ps(panel.scale + (kBegin + q) * kGroup);
        scale[2 + q] = _mm512_load_ps(panel.scale + (to_argument + kBegin + q) * kGroup);
    });
    for (int row = 0; row < block.rows; row += kRows) {
        Window window(block.in + row * stride,
                      static_cast<size_t>(block.begin) * stride * stage.in_stride, stage.in_stride,
                      segments);
        for (int x = 0; x < block.count; ++x, half += kRows) {
            window.next();
            unrolled<kRows>([&](auto r) EFFNET_EDGE_LAMBDA {
                __m512i sums[2] = {bias[0], bias[1]};
                window.template add<r>(weights, sums);
                const Words words = epilogue.words(sums[0], sums[1], scale, scale + 1, 2);
                half[r].value = words.value;
                if (epilogue.is_product()) half[r].argument = words.argument;
            });
        }
    }
}

// From both halves to bytes and their sums.
template <int kRows, int kSegments>
void finish(const Depthwise& stage, const Block& block, const Words* first, const Words* second,
            __m512i* totals) {
    const Segments segments = stage.segments;
    const int channels = stage.panel.channels;
    const size_t out_stride = stage.out_stride, out_row_stride = stage.out_row_stride;
    const __m512i table[4] = {stage.epilogue.table()[0], stage.epilogue.table()[1],
                              stage.epilogue.table()[2], stage.epilogue.table()[3]};
    const Epilogue epilogue(stage.epilogue, table);
    ByteSums byte_sums;
    for (int row = 0; row < block.rows; row += kRows) {
        uint8_t* out = block.out + row * out_row_stride + block.begin * out_stride;
        for (int x = 0; x < block.count; ++x, out += out_stride, first += kRows, second += kRows) {
            unrolled<kRows>([&](auto r) EFFNET_EDGE_LAMBDA {
                const __m512i bytes = epilogue.bytes(first[r], second[r]);
                store_segments<kSegments>(out + r * out_row_stride, bytes, channels, segments);
                if (kSegments > 1 && block.begin + x < segments.most_repeated) {
                    const __mmask64 once = not_repeated<kSegments>(segments, block.begin + x);
                    byte_sums.add(_mm512_maskz_mov_epi8(once, bytes));
                } else {
                    byte_sums.add(bytes);
                }
            });
        }
    }
    byte_sums.flush(totals);
}

// Of an even number of rows with stride 1 and a 3x3 kernel, or of one row; of any number otherwise.
template <int kKernel, int kStride, int kSegments>
void run_block(const Depthwise& stage, const Block& block, __m512i* totals) {
    Words first[kBlock], second[kBlock];
    if constexpr (kKernel == 5) {
        slide<Window5x5<kStride, kSegments, 0>>(stage, kStride, block, first);
        slide<Window5x5<kStride, kSegments, 2>>(stage, kStride, block, second);
    } else if (kStride == 1 && block.rows > 1) {
        slide<Window3x3<1, 2, kSegments, 0>>(stage, 1, block, first);
        slide<Window3x3<1, 2, kSegments, 2>>(stage, 1, block, second);
        finish<2, kSegments>(stage, block, first, second, totals);
        return;
    } else {
        slide<Window3x3<kStride, 1, kSegments, 0>>(stage, kStride, block, first);
        slide<Window3x3<kStride, 1, kSegments, 2>>(stage, kStride, block, second);
    }
    finish<1, kSegments>(stage, block, first, second, totals);
}

template <int kKernel, int kStride, int kSegments>
void run_rows(const Depthwise& stage, const DepthwiseRun& run, __m512i* totals) {
    constexpr int kTogether = kKernel == 3 && kStride == 1 ? 2 : 1;
    const int length = stage.segments.length;
    const int fitting = kBlock / length / kTogether * kTogether;
    Block block{run.in, run.out, 0, 0, 0};
    for (int r = 0; r < run.rows; r += block.rows) {
        const int left = run.rows - r;
        const int whole = left < kTogether ? left : left / kTogether * kTogether;
        const int most = fitting < kTogether ? kTogether : fitting;
        block.rows = whole < most ? whole : most;
        block.in = run.in + r * kStride;
        block.out = run.out + r * run.out_row_stride;
        const int columns = kBlock / block.rows;
        for (block.begin = 0; block.begin < length; block.begin += columns) {
            const int ahead = length - block.begin;
            block.count = ahead < columns ? ahead : columns;
            run_block<kKernel, kStride, kSegments>(stage, block, totals);
        }
    }
}

template <int kSegments>
void run_windows(int kernel, int stride, const Depthwise& stage, const DepthwiseRun& run) {
    alignas(64) int32_t totals[4][16] = {};
    auto* registers = reinterpret_cast<__m512i*>(totals);
    if (kernel == 3) {
        if (stride == 1)
            run_rows<3, 1, kSegments>(stage, run, registers);
        else
            run_rows<3, 2, kSegments>(stage, run, registers);
    } else {
        if (stride == 1)
            run_rows<5, 1, kSegments>(stage, run, registers);
        else
            run_rows<5, 2, kSegments>(stage, run, registers);
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
                const uint8_t* in =
                    run.in[r * stride + t / kernel] + (x * stride + t % kernel) * run.in_stride + c;
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
    const Depthwise stage{panel,
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
