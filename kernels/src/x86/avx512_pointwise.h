// 1x1 convolution: tiles of a few pixels by all channels of a panel, whose sums stay in registers.
//
// Included by one source file per instruction set; everything here is local to it.
#pragma once

#include <cstring>

#include "avx512_epilogue.h"

namespace effnet_edge::avx512 {
namespace {

// The most pixels of a tile: 24 registers of sums, which with the weights of four inputs leaves few
// enough loads that they don't bound.
constexpr int most_pixels(int groups) {
    return groups == 1 ? 24 : groups == 2 ? 12 : groups == 3 ? 8 : 6;
}

// Four registers of sums, which become one register of bytes: of how many pixels?
constexpr int pixels_per_register(int groups) { return groups == 1 ? 4 : groups == 2 ? 2 : 1; }

template <int kPixels, int kGroups>
void tile(const PointwisePanel& panel, const Epilogue& epilogue, const uint8_t* in, size_t in_stride,
          int depth, uint8_t* const* out) {
    __m512i sums[kPixels * kGroups];
    unrolled<kGroups>([&](auto g) EFFNET_EDGE_LAMBDA {
        const __m512i bias = _mm512_load_si512(panel.bias + g * kGroup);
        unrolled<kPixels>([&](auto p) EFFNET_EDGE_LAMBDA { sums[p * kGroups + g] = bias; });
    });
    const int8_t* weight = panel.weight;
    const auto multiply_add = [&](const uint8_t* inputs) EFFNET_EDGE_LAMBDA {
        __m512i w[kGroups];
        unrolled<kGroups>([&](auto g) EFFNET_EDGE_LAMBDA {
            w[g] = _mm512_load_si512(weight + g * kVector);
        });
        weight += kGroups * kVector;
        unrolled<kPixels>([&](auto p) EFFNET_EDGE_LAMBDA {
            int32_t four;
            std::memcpy(&four, inputs + p * in_stride, sizeof four);
            const __m512i x = _mm512_set1_epi32(four);
            unrolled<kGroups>([&](auto g) EFFNET_EDGE_LAMBDA {
                sums[p * kGroups + g] = _mm512_dpbusd_epi32(sums[p * kGroups + g], x, w[g]);
            });
        });
    };
    for (int k = 0; k < depth; k += 8) {
        multiply_add(in + k);
        multiply_add(in + k + 4);
    }
    unrolled<kPixels * kGroups>([&](auto i) EFFNET_EDGE_LAMBDA { keep_in_register(sums[i]); });

    constexpr int kTogether = pixels_per_register(kGroups);
    unrolled<(kPixels + kTogether - 1) / kTogether>([&](auto i) EFFNET_EDGE_LAMBDA {
        constexpr int kFirst = i * kTogether;
        // The registers' numbers; where there are fewer than four, the last again.
        const auto words = [&](auto number) EFFNET_EDGE_LAMBDA {
            constexpr int kBegin = kFirst * kGroups;
            constexpr int kLast = (kGroups == 3 ? kBegin + 3 : kPixels * kGroups) - 1;
            constexpr int kA = kBegin + number < kLast ? kBegin + number : kLast;
            constexpr int kB = kA < kLast ? kA + 1 : kLast;
            const auto* scale = reinterpret_cast<const __m512*>(panel.scale);
            return epilogue.words(sums[kA], sums[kB], scale + kA % kGroups, scale + kB % kGroups,
                                  kGroups);
        };
        const __m512i bytes = in_order<kGroups>(epilogue.bytes(words(Index<0>{}), words(Index<2>{})));
        store<kGroups * kGroup>(out[kFirst], bytes, panel.channels);
        if constexpr (kGroups == 2 && kFirst + 1 < kPixels) {
            store<32>(out[kFirst + 1], _mm512_castsi256_si512(_mm512_extracti64x4_epi64(bytes, 1)),
                      panel.channels);
        }
        if constexpr (kGroups == 1) {
            unrolled<3>([&](auto lane) EFFNET_EDGE_LAMBDA {
                if constexpr (kFirst + 1 + lane < kPixels) {
                    const __m128i pixel = _mm512_extracti32x4_epi32(bytes, lane + 1);
                    store<16>(out[kFirst + 1 + lane], _mm512_castsi128_si512(pixel), panel.channels);
                }
            });
        }
    });
}

using Tile = void (*)(const PointwisePanel&, const Epilogue&, const uint8_t*, size_t, int,
                      uint8_t* const*);

// A tile for at most `pixels` pixels, of kSize or of one of the smaller sizes. Returns its size.
template <int kSize, int kGroups>
int choose_tile(int pixels, Tile* chosen) {
    if constexpr (kSize > 1) {
        constexpr int kSmaller = kGroups == 4 ? kSize - 1 : kSize / 2;
        if (pixels < kSize) return choose_tile<kSmaller, kGroups>(pixels, chosen);
    }
    *chosen = tile<kSize, kGroups>;
    return kSize;
}

template <int kGroups>
void run_panel(const PointwisePanel& panel, const Epilogue& epilogue, int depth,
               const PointwiseRun& run, uint8_t* out) {
    constexpr int kMost = most_pixels(kGroups);
    const uint8_t* in = run.in;
    int x = 0;
    int left = run.rows * run.width;
    while (left > 0) {
        Tile compute;
        const int pixels = choose_tile<kMost, kGroups>(left, &compute);
        uint8_t* to[kMost];
        for (int p = 0; p < pixels; ++p) {
            to[p] = out + x * run.out_stride;
            if (++x == run.width) {
                x = 0;
                out += run.out_row_stride;
            }
        }
        compute(panel, epilogue, in, run.in_stride, depth, to);
        in += pixels * run.in_stride;
        left -= pixels;
    }
}

inline void run_pointwise(const void* packed, const PointwiseRun& run) {
    const auto& header = *static_cast<const PointwiseHeader*>(packed);
    const Epilogue epilogue(header.activated, table_of(packed, header));
    for (int i = run.panel_begin; i < run.panel_end; ++i) {
        const PointwisePanel panel = pointwise_panel(packed, header, i);
        uint8_t* out = run.out + (i - run.panel_begin) * kPanel;
        switch (groups_of(panel.channels)) {
            case 1: run_panel<1>(panel, epilogue, header.depth, run, out); break;
            case 2: run_panel<2>(panel, epilogue, header.depth, run, out); break;
            case 3: run_panel<3>(panel, epilogue, header.depth, run, out); break;
            default: run_panel<4>(panel, epilogue, header.depth, run, out);
        }
    }
}

}  // namespace
}  // namespace effnet_edge::avx512
