#include "requantizer.h"

#include <algorithm>
#include <cmath>

#include "unsupported.h"

namespace effnet_edge {
namespace {

constexpr double kLargestInt = 2147480000.0;
// Kernels round by adding 1.5 * 2^23, which is right up to 2^22.
constexpr double kLargestRounded = 4194304.0 - 256;

// kNarrow: 16 bits of a sum, times 16 bits. A multiplier under 256 would let saturation show in the
// result; one above 8192 leaves less than two bits under the result's last.
constexpr double kLeastNarrow = 256;
constexpr double kMostNarrow = 8192;
constexpr double kLeastBounded = 32;           // where the sum can't saturate
constexpr double kMostNarrowArgument = 32767;  // the sigmoid's argument needs less precision

// The multiplier that a constant channel is computed with; any would do.
constexpr double kConstantMultiplier = 1.0 / 1024;

int32_t whole(double value) {
    if (!(std::fabs(value) < kLargestInt)) {
        throw Unsupported("a bias is too large for 32 bits");
    }
    return static_cast<int32_t>(std::nearbyint(value));
}

double largest_total(const ChannelScale& channel) {
    return channel.bound + std::fabs(channel.bias);
}

void check(const std::vector<ChannelScale>& channels) {
    for (const ChannelScale& channel : channels) {
        if (!std::isfinite(channel.multiplier) || !(channel.multiplier >= 0)) {
            throw Unsupported("a scale isn't a positive number");
        }
        if (!(largest_total(channel) < kLargestInt)) {
            throw Unsupported("sums may exceed 32 bits");
        }
    }
}

// The same result from a usual multiplier, and from no input.
ChannelScale as_constant(const ChannelScale& channel) {
    // Far outside of 0..255 it may as well be less far.
    const double steps = std::min(std::max(channel.bias * channel.multiplier, -1024.0), 1024.0);
    return {kConstantMultiplier, steps / kConstantMultiplier, 0};
}

Requantizer in_float(const std::vector<ChannelScale>& channels,
                     const std::vector<double>& argument_ratios, Activation& activation) {
    Requantizer requantizer;
    requantizer.kind = Requantization::kFloat;
    for (size_t c = 0; c < channels.size(); ++c) {
        const double ratio = activation.product ? argument_ratios[c] : 0;
        const double most = channels[c].multiplier * std::max(1.0, std::fabs(ratio));
        if (largest_total(channels[c]) * most > kLargestRounded) {
            throw Unsupported("results may exceed their range too far");
        }
        requantizer.bias.push_back(whole(channels[c].bias));
        requantizer.scale.push_back(static_cast<float>(channels[c].multiplier));
        if (activation.product) {
            activation.argument_scale.push_back(static_cast<float>(channels[c].multiplier * ratio));
        }
    }
    return requantizer;
}

// The shift with which 16 bits do for all multipliers; 0 if there is none.
int narrow_shift(const std::vector<ChannelScale>& channels,
                 const std::vector<double>& argument_ratios) {
    double most = 0, most_argument = 0;
    for (size_t c = 0; c < channels.size(); ++c) {
        most = std::max(most, channels[c].multiplier);
        if (!argument_ratios.empty()) {
            most_argument =
                std::max(most_argument, channels[c].multiplier * std::fabs(argument_ratios[c]));
        }
    }
    const double unit = std::min(kMostNarrow / most, kMostNarrowArgument / most_argument);
    const int shift = static_cast<int>(std::floor(std::log2(unit / 32768)));
    if (shift < 1) return 0;
    const int limited = std::min(shift, 15);
    for (const ChannelScale& channel : channels) {
        const double multiplier = std::nearbyint(channel.multiplier * std::exp2(15 + limited));
        const bool bounded = largest_total(channel) < 32767 * std::exp2(limited);
        if (multiplier < (bounded ? kLeastBounded : kLeastNarrow)) return 0;
    }
    return limited;
}

int32_t fixed_multiplier(double multiplier, double unit, double most) {
    const double value = std::nearbyint(multiplier * unit);
    if (!(std::fabs(value) <= most)) {
        throw Unsupported("a result is finer than the sums that it is made of");
    }
    return static_cast<int32_t>(value);
}

Requantizer in_fixed_point(const std::vector<ChannelScale>& channels,
                           const std::vector<double>& argument_ratios, Activation& activation) {
    Requantizer requantizer;
    requantizer.shift = narrow_shift(channels, argument_ratios);
    const bool narrow = requantizer.shift > 0;
    requantizer.kind = narrow ? Requantization::kNarrow : Requantization::kWide;
    const double unit = std::exp2(narrow ? 15 + requantizer.shift : 31);
    const double most = narrow ? 32767 : kLargestInt;
    for (size_t c = 0; c < channels.size(); ++c) {
        const double multiplier = channels[c].multiplier;
        requantizer.bias.push_back(whole(channels[c].bias));
        requantizer.multiplier.push_back(fixed_multiplier(multiplier, unit, most));
        if (activation.product) {
            activation.argument_multiplier.push_back(
                fixed_multiplier(multiplier * argument_ratios[c], unit, most));
        }
    }
    return requantizer;
}

}  // namespace

bool constant_channel(const ChannelScale& channel) {
    return channel.bound * channel.multiplier < 1e-3;
}

Requantizer requantize_channels(std::vector<ChannelScale> channels,
                                const std::vector<double>& argument_ratios, int zero_point,
                                bool fixed_point, Activation& activation) {
    check(channels);
    if (!fixed_point) {
        Requantizer requantizer = in_float(channels, argument_ratios, activation);
        requantizer.zero_point = zero_point;
        return requantizer;
    }
    for (ChannelScale& channel : channels) {
        if (constant_channel(channel)) channel = as_constant(channel);
        if (!activation.product) channel.bias += zero_point / channel.multiplier;
    }
    check(channels);
    Requantizer requantizer = in_fixed_point(channels, argument_ratios, activation);
    requantizer.zero_point = zero_point;
    return requantizer;
}

}  // namespace effnet_edge
