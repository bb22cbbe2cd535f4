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

SqueezeExcite::SqueezeExcite(const Kernels& kernels, const ee_squeeze_excite& described,
                             ee_quantization map)
    : signed_maps_(kernels.signed_maps), pool_(kernels, map, described.pool) {
    const ee_conv& reduce = described.reduce;
    // Activations are looked up here, exactly on all processors: there are few of them.
    reduce_ = Pointwise(
        kernels, pointwise_stage(kernels, reduce,
                                 {described.pool, padded_order(reduce.in_channels, 16)},
                                 /*multiple=*/8, /*activated=*/false));
    expand_ = Pointwise(
        kernels, pointwise_stage(kernels, described.expand,
                                 {result_quantization(reduce), padded_order(reduce.out_channels, 8)},
                                 /*multiple=*/16, /*activated=*/false));
    const int flip = signed_maps_ ? 0x80 : 0;
    const bool has_factors = reduce.silu != nullptr && reduce.silu->factor != nullptr;
    reduced_.resize(has_factors ? reduce.out_channels : 1);
    for (size_t c = 0; c < reduced_.size(); ++c) {
        ByteTable silu{};
        if (reduce.silu != nullptr) {
            silu = silu_table(reduce, static_cast<int>(c));
        } else {
            std::iota(silu.begin(), silu.end(), uint8_t{0});
        }
        for (int i = 0; i < 256; ++i) reduced_[c][i ^ flip] = static_cast<uint8_t>(silu[i] ^ flip);
    }
    const ByteTable sigmoid = sigmoid_table(described.expand.output);
    for (int i = 0; i < 256; ++i) gate_[i ^ flip] = sigmoid[i];
}

size_t SqueezeExcite::scratch() const {
    return round_up(reduce_.depth(), kAlignment) + round_up(reduce_.channels(), kAlignment);
}

void SqueezeExcite::run(const int32_t* sums, size_t pixels, uint8_t* gates, void* memory) const {
    Scratch scratch(memory);
    uint8_t* pool = scratch.take<uint8_t>(reduce_.depth());
    uint8_t* inner = scratch.take<uint8_t>(reduce_.channels());
    pool_.run(sums, reduce_.depth(), pixels, pool);
    const auto multiply = [](const Pointwise& conv, const uint8_t* in, uint8_t* out) {
        const size_t channels = conv.channels();
        conv.run({in, static_cast<size_t>(conv.depth()), out, channels, channels, 1, 1, 0,
                  conv.panels()});
    };
    multiply(reduce_, pool, inner);
    for (int c = 0; c < reduce_.channels(); ++c) {
        // Channels that only pad have any table: what reads them has weights of zero.
        const size_t table = std::min<size_t>(c, reduced_.size() - 1);
        inner[c] = reduced_[table][inner[c]];
    }
    multiply(expand_, inner, gates);
    for (int c = 0; c < expand_.channels(); ++c) gates[c] = gate_[gates[c]];
}

}  // namespace effnet_edge
