// What all packed stages have: sizes, constants and the table of the activation.
#pragma once

#include "avx2_table_pack.h"

namespace effnet_edge {
namespace {

// 1.5 * 2^23: a float near it has steps of one, so that adding it rounds, half to even, and the low
// bits are the integer.
constexpr int32_t kRounderBits = 0x4B400000;
constexpr float kRounder = 12582912.0f;

// Groups follow, each its constants and its weights.
struct alignas(64) PackedStage {
    int channels;
    int groups;
    int depth;   // of a 1x1 convolution
    int kernel;  // of a depthwise one
    int stride;
    bool lookup;
    bool product;
    int32_t rounder_bits;  // minus the zero point of the byte that is looked up
    int zero_point;        // of the result of a product
    size_t group_bytes;
    PackedTable table;

    const GroupConstants& constants(int group) const {
        return *reinterpret_cast<const GroupConstants*>(reinterpret_cast<const uint8_t*>(this + 1) +
                                                        group * group_bytes);
    }
    const uint8_t* weights(int group) const {
        return reinterpret_cast<const uint8_t*>(&constants(group) + 1);
    }
    int channels_of(int group) const {
        const int left = channels - group * kGroup;
        return left < kGroup ? left : kGroup;
    }
};

inline int groups_of(const Stage& stage) { return (stage.channels + kGroup - 1) / kGroup; }

// `weight_bytes` of each group, a multiple of 64.
inline size_t packed_bytes(const Stage& stage, size_t weight_bytes) {
    return sizeof(PackedStage) + groups_of(stage) * (sizeof(GroupConstants) + weight_bytes);
}

// Everything but the weights, which are zero.
inline PackedStage& pack_frame(const Stage& stage, size_t weight_bytes, void* memory) {
    std::memset(memory, 0, packed_bytes(stage, weight_bytes));
    PackedStage& packed = *static_cast<PackedStage*>(memory);
    packed.channels = stage.channels;
    packed.groups = groups_of(stage);
    packed.depth = stage.depth;
    while (packed.kernel * packed.kernel < stage.taps) ++packed.kernel;
    packed.stride = stage.stride;
    const Activation& activation = stage.activation;
    packed.lookup = activation.kind != Lookup::kNone;
    packed.product = activation.product;
    packed.rounder_bits = kRounderBits - (activation.product ? activation.argument_zero_point
                                                             : stage.requantizer.zero_point);
    packed.zero_point = activation.zero_point;
    packed.group_bytes = sizeof(GroupConstants) + weight_bytes;
    if (packed.lookup) pack_table(activation.table.data(), packed.table);
    return packed;
}

// `lane_order` says which channel of `group` stands in a lane. Returns where its weights belong.
inline uint8_t* pack_constants(const Stage& stage, int group, int (*lane_order)(int),
                               PackedStage& packed) {
    auto& constants = const_cast<GroupConstants&>(packed.constants(group));
    for (int lane = 0; lane < kGroup; ++lane) {
        const int channel = group * kGroup + lane_order(lane);
        if (channel >= stage.channels) continue;
        constants.bias[lane] = stage.requantizer.bias.data()[channel];
        const float* scale = stage.requantizer.scale.data();
        const bool product = packed.product;
        constants.scale[lane] = (product ? stage.activation.argument_scale.data() : scale)[channel];
        constants.value_scale[lane] = product ? scale[channel] : 0;
    }
    return reinterpret_cast<uint8_t*>(&constants + 1);
}

}  // namespace
}  // namespace effnet_edge
