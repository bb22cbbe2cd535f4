// How depthwise convolutions become dot products: four bytes of a lane are four taps of one
// channel.
//
// The bytes of a column's rows are interleaved, so that a lane holds four rows of a channel: a
// "group". Two output rows are computed together, of 8 channels:
//
// stride 1: one group serves both, by weights that are shifted by a row.
//     3 x 3: rows 0 to 3.    5 x 5: rows 0 to 3; of rows 4 and 5 two columns make up a "pair".
// stride 2: each output row has its own.
//     3 x 3: rows 0 to 2 and 2 to 4.   5 x 5: rows 0 to 3 and 2 to 5; pairs are of rows 4 and 6.
//
// So a 3 x 3 kernel takes 3 products per output, for which 2.25 are the least, a 5 x 5 one 8, for
// which 6.25 are, and interleaving a column costs 4 to 9 instructions for 16 outputs.
#pragma once

#include <arm_neon.h>

#include "dot_epilogue.h"

namespace effnet_edge {
namespace {

template <int kKernel, int kStride, int kRows>
struct DepthwiseLayout {
    static constexpr int kInputRows = (kRows - 1) * kStride + kKernel;
    static constexpr int kGroups = kStride == 1 ? 1 : kRows;
    static constexpr bool kPairs = kKernel == 5;

    // The input row of a group's byte. Where the weight is zero it may be any.
    static constexpr int group_row(int group, int byte) {
        const int row = group * kStride + byte;
        return row < kInputRows ? row : kInputRows - 1;
    }
    static constexpr int pair_row(int byte) { return 4 + (kRows - 1) * kStride * byte; }
};

// Weights of 8 channels, in vectors of four: [column][row][2] for groups, then [pair][row][2].
constexpr int group_weights(int kernel) { return kernel * 4; }
constexpr int weight_vectors(int kernel) { return group_weights(kernel) + (kernel == 5 ? 12 : 0); }

// `weight(channel, row, column)`, zero where there is none.
template <class Weight>
inline void pack_depthwise_weights(int kernel, int stride, const Weight& weight, int8_t* to) {
    for (int column = 0; column < kernel; ++column) {
        for (int row = 0; row < 2; ++row) {
            for (int channel = 0; channel < 8; ++channel) {
                for (int byte = 0; byte < 4; ++byte) {
                    *to++ = weight(channel, stride == 1 ? byte - row : byte, column);
                }
            }
        }
    }
    if (kernel != 5) return;
    for (int column = 0; column < 6; column += 2) {
        for (int row = 0; row < 2; ++row) {
            for (int channel = 0; channel < 8; ++channel) {
                for (int byte = 0; byte < 4; ++byte) {
                    const int tap = 4 + (byte % 2 - row) * stride;
                    const bool in_group = tap < (stride == 1 ? 4 - row : 4);
                    *to++ = in_group ? 0 : weight(channel, tap, column + byte / 2);
                }
            }
        }
    }
}

}  // namespace
}  // namespace effnet_edge
