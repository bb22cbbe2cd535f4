// What the AVX-512 kernels share: the packed forms of stages. "avx512-vnni" and "avx512-vbmi"
// differ in their lookups only, so weights are packed the same for both.
//
// Sums are kept in zmm registers of 16 int32: a "group" of 16 channels, or of 4 channels ("quad")
// of 4 positions. Four such registers become one register of 64 bytes.
#pragma once

#include <cstddef>
#include <cstdint>

#include "../kernel.h"

namespace effnet_edge::avx512 {

constexpr int kPanel = 64;
constexpr int kGroup = 16;
constexpr int kQuad = 4;
constexpr size_t kVector = 64;  // bytes
constexpr size_t kTable = 256;

// How a stage's bytes are made.
enum class Result : int32_t { kBytes, kLookup, kProduct };

struct Activated {
    Result kind;
    int32_t zero_point;  // of the byte that is looked up, or of the product
    int32_t argument_zero_point;
};

// What follows a header is at offsets from its begin; each part is 64-byte aligned.
struct alignas(64) PointwiseHeader {
    int32_t channels;
    int32_t depth;
    Activated activated;
    size_t table_at;  // 256 bytes
    size_t panels_at;
    size_t panel_bytes;  // from one panel to the next
};

// Of groups * 16 channels in the order of `pointwise_channel`: int32 bias, float scale, with a
// product another float scale, and int8 weight [depth / 4][groups * 16][4].
struct PointwisePanel {
    int channels;
    const int32_t* bias;
    const float* scale;
    const int8_t* weight;
};

inline int groups_of(int channels) { return (channels + kGroup - 1) / kGroup; }

// Vectors of constants before a group's weights.
inline int constants_of(const Activated& activated) {
    return activated.kind == Result::kProduct ? 3 : 2;
}

inline PointwisePanel pointwise_panel(const void* packed, const PointwiseHeader& header,
                                      int panel) {
    const int left = header.channels - panel * kPanel;
    const int channels = left < kPanel ? left : kPanel;
    const size_t vectors = groups_of(channels) * kVector;
    const uint8_t* begin =
        static_cast<const uint8_t*>(packed) + header.panels_at + header.panel_bytes * panel;
    return {channels, reinterpret_cast<const int32_t*>(begin),
            reinterpret_cast<const float*>(begin + vectors),
            reinterpret_cast<const int8_t*>(begin + constants_of(header.activated) * vectors)};
}

struct alignas(64) DepthwiseHeader {
    int32_t channels;
    int32_t kernel;
    int32_t stride;
    Activated activated;
    size_t table_at;
    size_t panels_at;
    size_t panel_bytes;
};

// Positions of a row whose channels share a register of bytes: 64 channels of one, 32 of two or 16
// of four. 48 are computed as 64.
inline int segments_of(int channels) { return channels > 32 ? 1 : channels > 16 ? 2 : 4; }

// Vectors of weights per quarter of a panel, see avx512_window.h. 0: other kernels, computed with
// int32 weights [groups][taps][16].
inline int depthwise_vectors(int kernel, int stride) {
    if (stride > 2) return 0;
    return kernel == 3 ? (stride == 1 ? 6 : 3) : kernel == 5 ? 7 : 0;
}

// Of 64 channels, or copies of 32 or 16: int32 bias, float scale, with a product another float
// scale, and int8 weight [vectors][64][4].
struct DepthwisePanel {
    int channels;
    const int32_t* bias;
    const float* scale;
    const int8_t* weight;
};

inline DepthwisePanel depthwise_panel(const void* packed, const DepthwiseHeader& header,
                                      int panel) {
    const int left = header.channels - panel * kPanel;
    const uint8_t* begin =
        static_cast<const uint8_t*>(packed) + header.panels_at + header.panel_bytes * panel;
    return {left < kPanel ? left : kPanel, reinterpret_cast<const int32_t*>(begin),
            reinterpret_cast<const float*>(begin + kPanel * 4),
            reinterpret_cast<const int8_t*>(begin + constants_of(header.activated) * kPanel * 4)};
}

// Behind it: int32 bias and float scale [padded to 16], int8 weight [classes / 16][depth /
// 4][16][4].
struct alignas(64) ClassifierHeader {
    int32_t classes;
    int32_t depth;
};

size_t pointwise_bytes(const Stage& stage);
void pointwise_pack(const Stage& stage, void* packed);
size_t depthwise_bytes(const Stage& stage);
void depthwise_pack(const Stage& stage, void* packed);
size_t classifier_bytes(const Classifier& classifier);
void classifier_pack(const Classifier& classifier, void* packed);

void classify(const void* packed, const uint8_t* features, int first_class, int last_class,
              float* logits);
void gate(const GateRun& run);
void add(const AddRun& run);
void sum(const SumRun& run);

}  // namespace effnet_edge::avx512
