// 1x1 convolutions: tiles of 6 pixels by 16 channels, whose sums fill 12 of the 16 registers.
#pragma once

#include "avx2_finish.h"

namespace effnet_edge {
namespace {

constexpr int kTilePixels = 6;
// Weights of so many bytes stay in the second-level cache while all pixels pass.
constexpr size_t kBlockBytes = 96 * 1024;

using PixelTile = Multiply::Tile<kTilePixels>;

size_t pointwise_weight_bytes(const Stage& stage) {
    return static_cast<size_t>(stage.depth) * kGroup * sizeof(Multiply::Weight);
}

size_t pointwise_bytes(const Stage& stage) {
    return packed_bytes(stage, pointwise_weight_bytes(stage));
}

// Weights are [depth / kTerms][vectors][8 lanes][kTerms], one vector for 8 channels or fewer.
void pointwise_pack(const Stage& stage, void* memory) {
    PackedStage& packed = pack_frame(stage, pointwise_weight_bytes(stage), memory);
    for (int group = 0; group < packed.groups; ++group) {
        const bool half = packed.channels_of(group) <= kGroup / 2;
        const auto lane_order = half ? channel_of_half_lane : channel_of_lane;
        auto* weight =
            reinterpret_cast<Multiply::Weight*>(pack_constants(stage, group, lane_order, packed));
        for (int k = 0; k < stage.depth; k += Multiply::kTerms) {
            for (int lane = 0; lane < (half ? kGroup / 2 : kGroup); ++lane) {
                const int channel = group * kGroup + lane_order(lane);
                const int8_t* from =
                    stage.weight.data() + static_cast<size_t>(channel) * stage.depth + k;
                for (int term = 0; term < Multiply::kTerms; ++term) {
                    *weight++ = channel < stage.channels ? from[term] : 0;
                }
            }
        }
    }
}

// Adds inputs * weights over `depth`.
template <int kPixels, int kVectors>
[[gnu::always_inline]] inline void multiply(const uint8_t* inputs, size_t pitch,
                                            const uint8_t* weights, int depth,
                                            Sums<kPixels, kVectors>& sums) {
    constexpr int kUnroll = 2;  // depths are multiples of 8
    for (int k = 0; k < depth; k += kUnroll * Multiply::kTerms) {
#pragma GCC unroll 2
        for (int u = 0; u < kUnroll; ++u) {
            __m256i weight[kVectors];
#pragma GCC unroll 2
            for (int v = 0; v < kVectors; ++v) weight[v] = load(weights + v * 32);
#pragma GCC unroll 6
            for (int p = 0; p < kPixels; ++p) {
                int32_t terms;
                std::memcpy(&terms, inputs + p * pitch, sizeof terms);
                const __m256i input = _mm256_set1_epi32(terms);
#pragma GCC unroll 2
                for (int v = 0; v < kVectors; ++v) {
                    sums.of[p][v] = Multiply::multiply_add(sums.of[p][v], input, weight[v]);
                }
            }
            weights += kVectors * 32;
            inputs += sizeof(int32_t);
        }
    }
}

template <int kPixels>
[[gnu::always_inline]] inline void store_tile(const __m256i (&bytes)[pairs(kPixels)], int channels,
                                              uint8_t* const* out, size_t offset) {
    constexpr int kPairs = pairs(kPixels);
#pragma GCC unroll 3
    for (int i = 0; i < kPairs; ++i) {
        store_bytes(out[2 * i] + offset, _mm256_castsi256_si128(bytes[i]), channels);
        if (2 * i + 1 < kPixels) {
            store_bytes(out[2 * i + 1] + offset, _mm256_extracti128_si256(bytes[i], 1), channels);
        }
    }
}

// Not inlined: that `sums` are wanted twice would keep them in memory where they are made.
template <int kPixels, int kVectors>
[[gnu::noinline]] void finish_product_tile(const PackedStage& packed, int group,
                                           const Sums<kPixels, kVectors>& sums, uint8_t* const* out,
                                           size_t offset) {
    __m256i bytes[pairs(kPixels)];
    finish_product(packed, group, sums, bytes);
    store_tile<kPixels>(bytes, packed.channels_of(group), out, offset);
}

// One group of a tile. `tile` holds the pixels already if they fit; else it is filled on the way.
template <int kPixels, int kVectors>
void run_group(const PackedStage& packed, int group, const uint8_t* in, size_t in_stride,
               PixelTile& tile, uint8_t* const* out, size_t offset) {
    Sums<kPixels, kVectors> sums;
#pragma GCC unroll 6
    for (int p = 0; p < kPixels; ++p) {
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) {
            sums.of[p][v] = load(packed.constants(group).bias + v * 8);
        }
    }
    const uint8_t* weights = packed.weights(group);
    if (packed.depth <= Multiply::kMostDepth) {
        multiply(tile.begin(), tile.pitch, weights, packed.depth, sums);
    } else {
        for (int k = 0; k < packed.depth; k += Multiply::kMostDepth) {
            const int left = packed.depth - k;
            const int depth = left < Multiply::kMostDepth ? left : Multiply::kMostDepth;
            tile.read(in + k, in_stride, kPixels, depth);
            multiply(tile.begin(), tile.pitch, weights, depth, sums);
            weights += static_cast<size_t>(depth) * kVectors * 8 * sizeof(Multiply::Weight);
        }
    }
    if (packed.product) {
        const Sums<kPixels, kVectors> kept = sums;
        finish_product_tile(packed, group, kept, out, offset);
        return;
    }
    __m256i bytes[pairs(kPixels)];
    finish_lookup(packed, group, sums, bytes);
    store_tile<kPixels>(bytes, packed.channels_of(group), out, offset);
}

template <int kPixels>
void run_tile(const PackedStage& packed, int first_group, int last_group, const uint8_t* in,
              size_t in_stride, PixelTile& tile, uint8_t* const* out) {
    if (packed.depth <= Multiply::kMostDepth) tile.read(in, in_stride, kPixels, packed.depth);
    for (int group = first_group; group < last_group; ++group) {
        const size_t offset = static_cast<size_t>(group - first_group) * kGroup;
        if (packed.channels_of(group) > kGroup / 2) {
            run_group<kPixels, 2>(packed, group, in, in_stride, tile, out, offset);
        } else {
            run_group<kPixels, 1>(packed, group, in, in_stride, tile, out, offset);
        }
    }
}

void pointwise(const void* memory, const PointwiseRun& run) {
    const auto& packed = *static_cast<const PackedStage*>(memory);
    using Run = decltype(&run_tile<1>);
    static constexpr Run kRuns[kTilePixels] = {run_tile<1>, run_tile<2>, run_tile<3>,
                                               run_tile<4>, run_tile<5>, run_tile<6>};
    const int begin = run.panel_begin * kPanelGroups;
    const int wanted = run.panel_end * kPanelGroups;
    const int end = wanted < packed.groups ? wanted : packed.groups;
    const int fitting = static_cast<int>(kBlockBytes / packed.group_bytes);
    const int block = fitting > 1 ? fitting : 1;
    const int pixels = run.rows * run.width;
    PixelTile tile;
    for (int first = begin; first < end; first += block) {
        const int last = first + block < end ? first + block : end;
        uint8_t* row = run.out + static_cast<size_t>(first - begin) * kGroup;
        int x = 0;
        for (int p = 0; p < pixels; p += kTilePixels) {
            const int count = pixels - p < kTilePixels ? pixels - p : kTilePixels;
            uint8_t* out[kTilePixels];
            for (int i = 0; i < count; ++i) {
                out[i] = row + x * run.out_stride;
                if (++x == run.width) {
                    x = 0;
                    row += run.out_row_stride;
                }
            }
            kRuns[count - 1](packed, first, last, run.in + p * run.in_stride, run.in_stride, tile,
                             out);
        }
    }
}

}  // namespace
}  // namespace effnet_edge
