// 1x1 convolution: tiles of a few pixels by all channels of a panel, whose sums stay in registers.
//
// Included by one source file per instruction set; everything here is local to it.
#pragma once

#include <cstring>

#include "avx512_epilogue.h"

namespace effnet_edge::avx512 {
namespace {

// The pixels of a map, one after the other.
class OutputPixels {
  public:
    OutputPixels(uint8_t* out, const PointwiseRun& run)
        : row_(out),
          pixel_(out),
          stride_(run.out_stride),
          row_stride_(run.out_row_stride),
          width_(run.width),
          left_(run.width) {}

    EFFNET_EDGE_INLINE uint8_t* next() {
        uint8_t* const pixel = pixel_;
        pixel_ += stride_;
        if (--left_ == 0) {
            left_ = width_;
            pixel_ = row_ += row_stride_;
        }
        return pixel;
    }

  private:
    uint8_t* row_;
    uint8_t* pixel_;
    size_t stride_;
    size_t row_stride_;
    int width_;
    int left_;
};

// Sums of kPixels pixels by kGroups groups of channels.
template <int kPixels, int kGroups>
struct Sums {
    static constexpr int kSums = kPixels * kGroups;
    static constexpr int kPixelsPerRegister = kGroups == 1 ? 4 : kGroups == 2 ? 2 : 1;  // of bytes
    static constexpr int kRegisters = (kPixels + kPixelsPerRegister - 1) / kPixelsPerRegister;

    __m512i of[kSums];

    EFFNET_EDGE_INLINE void start(const PointwisePanel& panel) {
        unrolled<kSums>([&](auto i) EFFNET_EDGE_LAMBDA {
            of[i] = _mm512_load_si512(panel.bias + i % kGroups * kGroup);
        });
    }

    // Four inputs.
    EFFNET_EDGE_INLINE void multiply_add(const uint8_t* in, size_t in_stride,
                                         const int8_t* weight) {
        __m512i w[kGroups];
        unrolled<kGroups>([&](auto g) EFFNET_EDGE_LAMBDA {
            w[g] = _mm512_load_si512(weight + g * kVector);
            if constexpr (kPixels > 1) keep_in_register(w[g]);
        });
        unrolled<kPixels>([&](auto p) EFFNET_EDGE_LAMBDA {
            int32_t four;
            std::memcpy(&four, in + p * in_stride, sizeof four);
            const __m512i x = _mm512_set1_epi32(four);
            unrolled<kGroups>([&](auto g) EFFNET_EDGE_LAMBDA {
                of[p * kGroups + g] = _mm512_dpbusd_epi32(of[p * kGroups + g], x, w[g]);
            });
        });
    }

    EFFNET_EDGE_INLINE void keep_in_registers() {
        unrolled<kSums>([&](auto i) EFFNET_EDGE_LAMBDA { keep_in_register(of[i]); });
    }

    // The bytes of register kRegister of kRegisters.
    template <int kRegister>
    EFFNET_EDGE_INLINE void finish(const PointwisePanel& panel, const Epilogue& epilogue,
                                   OutputPixels& out) const {
        constexpr int kPixel = kRegister * kPixelsPerRegister;
        // Of four registers of sums; where there are fewer, the last again.
        const auto words = [&](auto number) EFFNET_EDGE_LAMBDA {
            constexpr int kBegin = kPixel * kGroups;
            constexpr int kLast = (kGroups == 3 ? kBegin + 3 : kSums) - 1;
            constexpr int kA = kBegin + number < kLast ? kBegin + number : kLast;
            constexpr int kB = kA < kLast ? kA + 1 : kLast;
            const auto* scale = reinterpret_cast<const __m512*>(panel.scale);
            return epilogue.words(of[kA], of[kB], scale + kA % kGroups, scale + kB % kGroups,
                                  kGroups);
        };
        const __m512i bytes =
            in_order<kGroups>(epilogue.bytes(words(Index<0>{}), words(Index<2>{})));
        store<kGroups * kGroup>(out.next(), bytes, panel.channels);
        if constexpr (kGroups == 2 && kPixel + 1 < kPixels) {
            store<32>(out.next(), _mm512_castsi256_si512(_mm512_extracti64x4_epi64(bytes, 1)),
                      panel.channels);
        }
        if constexpr (kGroups == 1) {
            unrolled<3>([&](auto lane) EFFNET_EDGE_LAMBDA {
                if constexpr (kPixel + 1 + lane < kPixels) {
                    const __m128i pixel = _mm512_extracti32x4_epi32(bytes, lane + 1);
                    store<16>(out.next(), _mm512_castsi128_si512(pixel), panel.channels);
                }
            });
        }
    }
};

// One tile. For large depths: sums in 24 registers keep loads few.
template <int kPixels, int kGroups>
void run_tile(const PointwisePanel& panel, const Epilogue& epilogue, const uint8_t* in,
              size_t in_stride, int depth, OutputPixels* out) {
    Sums<kPixels, kGroups> sums;
    sums.start(panel);
    const int8_t* weight = panel.weight;
    for (int k = 0; k < depth; k += 8) {
        sums.multiply_add(in + k, in_stride, weight);
        weight += kGroups * kVector;
        sums.multiply_add(in + k + 4, in_stride, weight);
        weight += kGroups * kVector;
    }
    sums.keep_in_registers();
    OutputPixels pixels = *out;
    unrolled<sums.kRegisters>(
        [&](auto i) EFFNET_EDGE_LAMBDA { sums.template finish<i>(panel, epilogue, pixels); });
    *out = pixels;
}

using Tile = void (*)(const PointwisePanel&, const Epilogue&, const uint8_t*, size_t, int,
                      OutputPixels*);

// A tile for at most `pixels` pixels, of kSize or of one of the smaller sizes. Returns its size.
template <int kSize, int kGroups>
int choose_tile(int pixels, Tile* chosen) {
    if constexpr (kSize > 1) {
        constexpr int kSmaller = kGroups == 4 ? kSize - 1 : kSize / 2;
        if (pixels < kSize) return choose_tile<kSmaller, kGroups>(pixels, chosen);
    }
    *chosen = run_tile<kSize, kGroups>;
    return kSize;
}

// Tiles of half the size, with each one's bytes made while the next one is multiplied: the two use
// different execution units, but with small depths they are too far apart to overlap by themselves.
template <int kGroups>
const uint8_t* run_overlapped(const PointwisePanel& panel, const Epilogue& epilogue,
                              const uint8_t* in, size_t in_stride, int depth, int tiles,
                              OutputPixels* out) {
    using TileSums = Sums<12 / kGroups, kGroups>;
    constexpr int kRegisters = TileSums::kRegisters;
    OutputPixels pixels = *out;
    TileSums sums;
    sums.start(panel);
    for (int k = 0; k < depth; k += 4) {
        sums.multiply_add(in + k, in_stride, panel.weight + k * kGroups * kGroup);
    }
    sums.keep_in_registers();
    in += 12 / kGroups * in_stride;
    for (int tile = 1; tile < tiles; ++tile) {
        const TileSums previous = sums;
        sums.start(panel);
        const int8_t* weight = panel.weight;
        unrolled<kRegisters>([&](auto i) EFFNET_EDGE_LAMBDA {
            sums.multiply_add(in + i * 4, in_stride, weight);
            weight += kGroups * kVector;
            previous.template finish<i>(panel, epilogue, pixels);
        });
        for (int k = 4 * kRegisters; k < depth; k += 4) {
            sums.multiply_add(in + k, in_stride, weight);
            weight += kGroups * kVector;
        }
        sums.keep_in_registers();
        in += 12 / kGroups * in_stride;
    }
    unrolled<kRegisters>(
        [&](auto i) EFFNET_EDGE_LAMBDA { sums.template finish<i>(panel, epilogue, pixels); });
    *out = pixels;
    return in;
}

// Depths for which bytes take a noticeable part of the time; at least 4 * kRegisters.
constexpr int kLeastOverlapped = 16;
constexpr int kMostOverlapped = 256;

template <int kGroups>
void run_panel(const PointwisePanel& panel, const Epilogue& epilogue, int depth,
               const PointwiseRun& run, uint8_t* out) {
    constexpr int kMost = 24 / kGroups;
    OutputPixels pixels(out, run);
    const uint8_t* in = run.in;
    int left = run.rows * run.width;
    if (depth >= kLeastOverlapped && depth <= kMostOverlapped && left >= kMost / 2) {
        const int tiles = left / (kMost / 2);
        in = run_overlapped<kGroups>(panel, epilogue, in, run.in_stride, depth, tiles, &pixels);
        left -= tiles * (kMost / 2);
    }
    while (left > 0) {
        Tile run_chosen;
        const int size = choose_tile<kMost, kGroups>(left, &run_chosen);
        run_chosen(panel, epilogue, in, run.in_stride, depth, &pixels);
        in += size * run.in_stride;
        left -= size;
    }
}

inline void run_pointwise(const void* packed, const PointwiseRun& run) {
    const auto& header = *static_cast<const PointwiseHeader*>(packed);
    const Epilogue epilogue(header.activated, table_of(packed, header));
    for (int i = run.panel_begin; i < run.panel_end; ++i) {
        const PointwisePanel panel = pointwise_panel(packed, header, i);
        uint8_t* out = run.out + (i - run.panel_begin) * kPanel;
        switch (groups_of(panel.channels)) {
            case 1:
                run_panel<1>(panel, epilogue, header.depth, run, out);
                break;
            case 2:
                run_panel<2>(panel, epilogue, header.depth, run, out);
                break;
            case 3:
                run_panel<3>(panel, epilogue, header.depth, run, out);
                break;
            default:
                run_panel<4>(panel, epilogue, header.depth, run, out);
        }
    }
}

}  // namespace
}  // namespace effnet_edge::avx512
