#include "squeeze_excite.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "arithmetic.h"
#include "stage_maker.h"
#include "unsupported.h"

namespace effnet_edge {
namespace {

constexpr int kMostShift = 6;
constexpr double kLargestMultiplier = 32767;

}  // namespace

Gating::Gating(const Kernels& kernels, ee_quantization map, ee_quantization output) {
    const double ratio = static_cast<double>(map.scale) / output.scale;
    shift_ = kMostShift;
    while (shift_ > 0 && ratio * std::exp2(8 + shift_) > kLargestMultiplier) --shift_;
    if (ratio * std::exp2(8 + shift_) > kLargestMultiplier) {
        throw Unsupported("the gated map's scale is too fine for its input");
    }
    const double half = shift_ > 0 ? std::exp2(shift_ - 1) : 0;
    for (int gate = 0; gate < 256; ++gate) {
        const double multiplier = std::nearbyint(ratio * std::exp2(shift_) * gate);
        // What the zero point becomes, by the rounded multiplier.
        const double moved = stored_zero_point(kernels, map) * multiplier / 256;
        const double offset = stored_zero_point(kernels, output) * std::exp2(shift_) + half - moved;
        multipliers_[gate] = static_cast<int16_t>(multiplier);
        offsets_[gate] = static_cast<int16_t>(saturate16(round_to_int(offset)));
    }
}

SqueezeExcite::Matrix::Matrix(const Kernels& kernels, const ee_conv& conv, ee_quantization input)
    : weights(kernels,
              make_classifier(kernels, input, conv.in_channels, conv.out_channels, conv.weight,
                              conv.weight_scale, conv.bias, conv.output.scale, /*multiple=*/16)),
      channels(static_cast<int>(round_up(conv.out_channels, 16))),
      depth(static_cast<int>(round_up(conv.in_channels, 16))),
      zero_point(static_cast<float>(conv.output.zero_point)) {}

void SqueezeExcite::Matrix::run(const uint8_t* in, float* steps, uint8_t* out) const {
    weights.run(in, 0, channels, steps);
    for (int c = 0; c < channels; ++c) {
        const float clamped = std::min(std::max(steps[c], -512.0F), 512.0F);
        const int32_t rounded = static_cast<int32_t>(round_half_even(clamped) + zero_point);
        out[c] = static_cast<uint8_t>(std::min(std::max(rounded, 0), 255));
    }
}

SqueezeExcite::SqueezeExcite(const Kernels& kernels, const ee_squeeze_excite& described,
                             ee_quantization map)
    : pool_(kernels, map, described.pool),
      reduce_(kernels, described.reduce, described.pool),
      expand_(kernels, described.expand, result_quantization(described.reduce)),
      gate_(sigmoid_table(described.expand.output)) {
    const ee_conv& reduce = described.reduce;
    const bool has_factors = reduce.silu != nullptr && reduce.silu->factor != nullptr;
    reduced_.resize(has_factors ? reduce.out_channels : 1);
    for (size_t c = 0; c < reduced_.size(); ++c) {
        ByteTable& table = reduced_[c];
        if (reduce.silu != nullptr) {
            table = silu_table(reduce, static_cast<int>(c));
        } else {
            std::iota(table.begin(), table.end(), uint8_t{0});
        }
        for (uint8_t& byte : table) byte = kernels.signed_maps ? byte ^ 0x80 : byte;
    }
}

size_t SqueezeExcite::scratch() const {
    Scratch scratch(nullptr);
    scratch.take<uint8_t>(reduce_.depth);
    scratch.take<uint8_t>(reduce_.channels);
    scratch.take<float>(std::max(reduce_.channels, expand_.channels));
    return scratch.used();
}

void SqueezeExcite::run(const int32_t* sums, size_t pixels, uint8_t* gates, void* memory) const {
    Scratch scratch(memory);
    uint8_t* pool = scratch.take<uint8_t>(reduce_.depth);
    uint8_t* inner = scratch.take<uint8_t>(reduce_.channels);
    float* steps = scratch.take<float>(std::max(reduce_.channels, expand_.channels));
    pool_.run(sums, reduce_.depth, pixels, pool);
    reduce_.run(pool, steps, inner);
    for (int c = 0; c < reduce_.channels; ++c) {
        // Channels that only pad have any table: what reads them has weights of zero.
        inner[c] = reduced_[std::min<size_t>(c, reduced_.size() - 1)][inner[c]];
    }
    expand_.run(inner, steps, gates);
    for (int c = 0; c < expand_.channels; ++c) gates[c] = gate_[gates[c]];
}

}  // namespace effnet_edge
