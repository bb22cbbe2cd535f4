// From the real factors of a convolution to the constants of its requantization.
#pragma once

#include <vector>

#include "stage.h"

namespace effnet_edge {

// What one output channel's sum means: steps of the result = multiplier * (sum + bias). `bound` is
// the largest |sum| that the channel's weights allow. All 0: a channel that only pads.
struct ChannelScale {
    double multiplier = 0;
    double bias = 0;
    double bound = 0;
};

// Whether the channel's result doesn't depend on its input by as much as a thousandth of a step.
bool constant_channel(const ChannelScale& channel);

// The constants, and those of the argument if the activation is a product: an argument's
// multiplier is `argument_ratios` times its value's. `zero_point` is that of the byte which is
// looked up. Fixed point is kNarrow where 16 bits do, else kWide. Throws Unsupported where the
// kernels' arithmetic would not hold the numbers.
Requantizer requantize_channels(std::vector<ChannelScale> channels,
                                const std::vector<double>& argument_ratios, int zero_point,
                                bool fixed_point, Activation& activation);

}  // namespace effnet_edge
