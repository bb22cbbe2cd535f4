// Products of signed bytes for 1x1 convolutions.
//
// ARMv8.0 has no dot product. Two products of int8 fit 16 bits, as weights are never -128: SMULL
// and SMLAL give 8 such pairs, SADALP adds neighbouring lanes to int32. So that neighbours belong
// to one channel, weights lie as pairs of inputs (channel 0: k and k + 1, channel 1: k and k + 1,
// ...), and LD4R repeats each of four pairs of a pixel over a register: 8 multiplications per
// cycle of the one pipe that multiplies, which is what the kernels are bound by.
#pragma once

#include <cstddef>

#include "neon_armv7.h"
#include "neon_kernels.h"

namespace effnet_edge {
namespace {

// 8 inputs of `8 * groups` channels as `accumulate` reads them. `weight(channel, k)` may be asked
// for any channel.
template <class Weight>
inline int8_t* pack_weights(int groups, int depth, int8_t* to, const Weight& weight) {
    for (int k = 0; k < depth; k += 2) {
        for (int c = 0; c < 8 * groups; ++c) {
            *to++ = weight(c, k);
            *to++ = weight(c, k + 1);
        }
    }
    return to;
}

// sums[pixel][quarter] += the products of `depth` inputs; a group of 8 channels is two quarters.
// Moves `in` on. Per 8 inputs of 4 pixels and 16 channels these are 64 multiplications and 32
// additions; sums, weights, inputs and products take all 32 registers.
template <int kPixels, int kGroups>
EFFNET_EDGE_INLINE void accumulate(const uint8_t* (&in)[kPixels], const int8_t* weights, int depth,
                                   int32x4_t (&sums)[kPixels][2 * kGroups]) {
    const int8_t* const end = weights + 8 * kGroups * depth;
    do {
        int8x16_t w[4][kGroups];
        for (int pair = 0; pair < 4; ++pair) {
            for (int g = 0; g < kGroups; ++g) {
                w[pair][g] = vld1q_s8(weights + (pair * kGroups + g) * 16);
            }
        }
        weights += 64 * kGroups;
#pragma GCC unroll 4
        for (int p = 0; p < kPixels; ++p) {
            const uint16x8x4_t x = vld4q_dup_u16(reinterpret_cast<const uint16_t*>(in[p]));
            in[p] += 8;
#pragma GCC unroll 2
            for (int pair = 0; pair < 4; pair += 2) {
                const int8x16_t x0 = vreinterpretq_s8_u16(x.val[pair]);
                const int8x16_t x1 = vreinterpretq_s8_u16(x.val[pair + 1]);
                int16x8_t products[2 * kGroups];
#pragma GCC unroll 2
                for (int g = 0; g < kGroups; ++g) {
                    products[2 * g] = vmull_s8(vget_low_s8(w[pair][g]), vget_low_s8(x0));
                    products[2 * g + 1] = vmull_high_s8(w[pair][g], x0);
                }
#pragma GCC unroll 2
                for (int g = 0; g < kGroups; ++g) {
                    products[2 * g] =
                        vmlal_s8(products[2 * g], vget_low_s8(w[pair + 1][g]), vget_low_s8(x1));
                    products[2 * g + 1] = vmlal_high_s8(products[2 * g + 1], w[pair + 1][g], x1);
                }
#pragma GCC unroll 4
                for (int q = 0; q < 2 * kGroups; ++q) {
                    sums[p][q] = vpadalq_s16(sums[p][q], products[q]);
                }
            }
        }
    } while (weights != end);
}

}  // namespace
}  // namespace effnet_edge
