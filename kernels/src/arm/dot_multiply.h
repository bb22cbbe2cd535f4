// Sums of products for 1x1 convolutions, by SDOT: four inputs of a pixel, in one lane of a
// register, times the weights of four channels.
#pragma once

#include <arm_neon.h>

#include "dot_epilogue.h"

namespace effnet_edge {
namespace {

// Weights of `4 * vectors` channels as `accumulate` reads them. `weight(channel, k)` may be asked
// for any channel.
template <class Weight>
inline void pack_weights(int vectors, int depth, int8_t* to, const Weight& weight) {
    for (int k = 0; k < depth; k += 4) {
        for (int c = 0; c < 4 * vectors; ++c) {
            for (int i = 0; i < 4; ++i) *to++ = weight(c, k + i);
        }
    }
}

// Sixteen inputs of each pixel.
template <int kPixels, int kVectors>
EFFNET_EDGE_INLINE void accumulate_sixteen(const int8x16_t (&x)[kPixels], const int8_t* weights,
                                           int32x4_t (&sums)[kPixels * kVectors]) {
#pragma GCC unroll 16
    for (int v = 0; v < 4 * kVectors; ++v) {
        const int8x16_t w = vld1q_s8(weights + v * 16);
        for (int p = 0; p < kPixels; ++p) {
            int32x4_t& sum = sums[p * kVectors + v % kVectors];
            switch (v / kVectors) {
                case 0:
                    sum = vdotq_laneq_s32(sum, w, x[p], 0);
                    break;
                case 1:
                    sum = vdotq_laneq_s32(sum, w, x[p], 1);
                    break;
                case 2:
                    sum = vdotq_laneq_s32(sum, w, x[p], 2);
                    break;
                case 3:
                    sum = vdotq_laneq_s32(sum, w, x[p], 3);
                    break;
            }
        }
    }
}

// Eight of them.
template <int kPixels, int kVectors>
EFFNET_EDGE_INLINE void accumulate_eight(const int8x8_t (&x)[kPixels], const int8_t* weights,
                                         int32x4_t (&sums)[kPixels * kVectors]) {
#pragma GCC unroll 8
    for (int v = 0; v < 2 * kVectors; ++v) {
        const int8x16_t w = vld1q_s8(weights + v * 16);
        for (int p = 0; p < kPixels; ++p) {
            int32x4_t& sum = sums[p * kVectors + v % kVectors];
            sum = v < kVectors ? vdotq_lane_s32(sum, w, x[p], 0) : vdotq_lane_s32(sum, w, x[p], 1);
        }
    }
}

// sums[pixel * kVectors + vector] = bias + the products of `depth` inputs. A vector is four
// channels.
template <int kPixels, int kVectors>
EFFNET_EDGE_INLINE void accumulate(const uint8_t* const (&in)[kPixels], const int8_t* weights,
                                   int depth, const int32_t* bias,
                                   int32x4_t (&sums)[kPixels * kVectors]) {
    for (int p = 0; p < kPixels; ++p) {
        // Loading it again for each pixel costs nothing; copying registers would take the place of
        // products. So the compiler must not know that it is the same.
        asm("" : "+r"(bias));
        for (int v = 0; v < kVectors; ++v) sums[p * kVectors + v] = vld1q_s32(bias + v * 4);
    }
    int k = 0;
    for (; k + 16 <= depth; k += 16, weights += 64 * kVectors) {
        int8x16_t x[kPixels];
        for (int p = 0; p < kPixels; ++p) {
            x[p] = vld1q_s8(reinterpret_cast<const int8_t*>(in[p] + k));
        }
        accumulate_sixteen<kPixels, kVectors>(x, weights, sums);
    }
    if (k < depth) {
        int8x8_t x[kPixels];
        for (int p = 0; p < kPixels; ++p) {
            x[p] = vld1_s8(reinterpret_cast<const int8_t*>(in[p] + k));
        }
        accumulate_eight<kPixels, kVectors>(x, weights, sums);
    }
}

}  // namespace
}  // namespace effnet_edge
