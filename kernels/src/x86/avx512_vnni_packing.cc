// Weights, constants and tables in the order in which the AVX-512 kernels read them.
#include <cstring>

#include "avx512.h"

namespace effnet_edge::avx512 {
namespace {

Activated activated(const Stage& stage) {
    const Activation& activation = stage.activation;
    if (activation.product) {
        return {Result::kProduct, activation.zero_point, activation.argument_zero_point};
    }
    return {activation.kind == Lookup::kNone ? Result::kBytes : Result::kLookup,
            stage.requantizer.zero_point, 0};
}

// Of one panel.
struct Packed {
    int32_t* bias;
    float* scale;
    float* argument_scale;  // of a product
    int8_t* weight;
};

Packed packed_panel(uint8_t* begin, const Activated& activated, int channels) {
    auto* bias = reinterpret_cast<int32_t*>(begin);
    auto* scale = reinterpret_cast<float*>(bias + channels);
    auto* weight = reinterpret_cast<int8_t*>(bias + constants_of(activated) * channels);
    return {bias, scale, scale + channels, weight};
}

void pack_constants(const Stage& stage, int channel, const Packed& to, int at) {
    to.bias[at] = stage.requantizer.bias[channel];
    to.scale[at] = stage.requantizer.scale[channel];
    if (stage.activation.product) {
        to.argument_scale[at] = stage.activation.argument_scale[channel];
    }
}

void pack_table(const Stage& stage, uint8_t* to) {
    if (!stage.activation.table.empty()) std::memcpy(to, stage.activation.table.data(), kTable);
}

int panels_of(int channels) { return (channels + kPanel - 1) / kPanel; }

// Number `at` of a panel is this channel of it, so that packing 32-bit numbers to bytes, which
// interleaves four registers, leaves channels in order. A single group's are interleaved with those
// of other pixels.
int pointwise_channel(int groups, int at) {
    const int group = at / kGroup, lane = at % kGroup;
    return (lane / kQuad * groups + group) * kQuad + lane % kQuad;
}

// Byte `byte` of a register of 64 comes from this number of four registers of 16 sums.
int number_of_byte(int byte) {
    return byte / kQuad % 4 * kGroup + byte / kGroup * kQuad + byte % kQuad;
}

PointwiseHeader pointwise_header(const Stage& stage) {
    PointwiseHeader header{};
    header.channels = stage.channels;
    header.depth = stage.depth;
    header.activated = activated(stage);
    header.table_at = sizeof header;
    header.panels_at = header.table_at + kTable;
    const int channels = stage.channels < kPanel ? groups_of(stage.channels) * kGroup : kPanel;
    header.panel_bytes =
        static_cast<size_t>(channels) * (4 * constants_of(header.activated) + stage.depth);
    return header;
}

DepthwiseHeader depthwise_header(const Stage& stage) {
    DepthwiseHeader header{};
    header.channels = stage.channels;
    while (header.kernel * header.kernel < stage.taps) ++header.kernel;
    header.stride = stage.stride;
    header.activated = activated(stage);
    header.table_at = sizeof header;
    header.panels_at = header.table_at + kTable;
    const int vectors = depthwise_vectors(header.kernel, header.stride);
    header.panel_bytes = static_cast<size_t>(kPanel) * 4 *
                         (constants_of(header.activated) + (vectors > 0 ? vectors : stage.taps));
    return header;
}

// The kernel element (row, column) that byte `byte` of vector `vector` is; false: none, and 0.
bool window_tap(const DepthwiseHeader& header, int vector, int byte, int* row, int* column) {
    *row = byte;
    *column = vector;
    if (header.kernel == 3) {
        if (vector >= 3) {
            *row = byte - 1;
            *column = vector - 3;
        }
        return *row >= 0 && *row < 3;
    }
    if (vector < 5) return true;
    *row = 4;
    const bool fifth = vector == 6;
    if (header.stride == 1)
        *column = fifth ? 4 : byte;
    else
        *column = fifth ? 0 : byte + 1;
    return !fifth || byte == 3;
}

void pack_windows(const DepthwiseHeader& header, const int8_t* taps, int8_t* to, int at) {
    for (int v = 0; v < depthwise_vectors(header.kernel, header.stride); ++v) {
        for (int byte = 0; byte < 4; ++byte) {
            int row, column;
            if (!window_tap(header, v, byte, &row, &column)) continue;
            to[(v * kPanel + at) * 4 + byte] = taps[row * header.kernel + column];
        }
    }
}

}  // namespace

size_t pointwise_bytes(const Stage& stage) {
    const PointwiseHeader header = pointwise_header(stage);
    return header.panels_at + header.panel_bytes * panels_of(stage.channels);
}

void pointwise_pack(const Stage& stage, void* packed) {
    std::memset(packed, 0, pointwise_bytes(stage));
    const PointwiseHeader header = pointwise_header(stage);
    std::memcpy(packed, &header, sizeof header);
    auto* begin = static_cast<uint8_t*>(packed);
    pack_table(stage, begin + header.table_at);
    for (int panel = 0; panel < panels_of(stage.channels); ++panel) {
        const int first = panel * kPanel;
        const int left = stage.channels - first;
        const int groups = groups_of(left < kPanel ? left : kPanel);
        const Packed to = packed_panel(begin + header.panels_at + header.panel_bytes * panel,
                                       header.activated, groups * kGroup);
        for (int at = 0; at < groups * kGroup; ++at) {
            const int channel = first + pointwise_channel(groups, at);
            if (channel >= stage.channels) continue;
            pack_constants(stage, channel, to, at);
            const int8_t* weight = &stage.weight[static_cast<size_t>(channel) * stage.depth];
            for (int k = 0; k < stage.depth; ++k) {
                to.weight[(k / 4 * groups * kGroup + at) * 4 + k % 4] = weight[k];
            }
        }
    }
}

size_t depthwise_bytes(const Stage& stage) {
    const DepthwiseHeader header = depthwise_header(stage);
    return header.panels_at + header.panel_bytes * panels_of(stage.channels);
}

void depthwise_pack(const Stage& stage, void* packed) {
    std::memset(packed, 0, depthwise_bytes(stage));
    const DepthwiseHeader header = depthwise_header(stage);
    std::memcpy(packed, &header, sizeof header);
    auto* begin = static_cast<uint8_t*>(packed);
    pack_table(stage, begin + header.table_at);
    const bool windows = depthwise_vectors(header.kernel, header.stride) > 0;
    for (int panel = 0; panel < panels_of(stage.channels); ++panel) {
        const int first = panel * kPanel;
        const int channels = stage.channels - first < kPanel ? stage.channels - first : kPanel;
        const Packed to = packed_panel(begin + header.panels_at + header.panel_bytes * panel,
                                       header.activated, kPanel);
        for (int i = 0; i < (windows ? kPanel : channels); ++i) {
            const int channel = windows && segments_of(channels) > 1 ? i % channels : i;
            if (channel >= channels) continue;
            const int8_t* taps = &stage.weight[static_cast<size_t>(first + channel) * stage.taps];
            const int at = windows ? number_of_byte(i) : i;
            pack_constants(stage, first + channel, to, at);
            if (windows) {
                pack_windows(header, taps, to.weight, at);
                continue;
            }
            auto* weight = reinterpret_cast<int32_t*>(to.weight) + i / kGroup * stage.taps * kGroup;
            for (int t = 0; t < stage.taps; ++t) weight[t * kGroup + i % kGroup] = taps[t];
        }
    }
}

size_t classifier_bytes(const Classifier& classifier) {
    return sizeof(ClassifierHeader) +
           static_cast<size_t>(groups_of(classifier.classes)) * kGroup * (4 + 4 + classifier.depth);
}

void classifier_pack(const Classifier& classifier, void* packed) {
    std::memset(packed, 0, classifier_bytes(classifier));
    auto* header = static_cast<ClassifierHeader*>(packed);
    *header = {classifier.classes, classifier.depth};
    const int padded = groups_of(classifier.classes) * kGroup;
    auto* bias = reinterpret_cast<int32_t*>(header + 1);
    auto* scale = reinterpret_cast<float*>(bias + padded);
    auto* weight = reinterpret_cast<int8_t*>(scale + padded);
    for (int c = 0; c < classifier.classes; ++c) {
        bias[c] = classifier.bias[c];
        scale[c] = classifier.scale[c];
        for (int k = 0; k < classifier.depth; ++k) {
            const size_t four = static_cast<size_t>(c / kGroup) * classifier.depth / 4 + k / 4;
            weight[(four * kGroup + c % kGroup) * 4 + k % 4] =
                classifier.weight[static_cast<size_t>(c) * classifier.depth + k];
        }
    }
}

}  // namespace effnet_edge::avx512
