// The classifier: a 1x1 convolution of one pixel, 16 classes at a time.
#include <cstring>

#include "neon_kernels.h"
#include "neon_multiply.h"

namespace effnet_edge {
namespace {

struct Header {
    int32_t depth;
};

constexpr size_t kHeaderBytes = 64;
constexpr int kPanel = 16;

// Filled with zeros where there are no more classes; the weights follow.
struct alignas(16) PanelConstants {
    int32_t bias[kPanel];
    float scale[kPanel];
};

size_t panel_bytes(int depth) {
    return sizeof(PanelConstants) + kPanel * static_cast<size_t>(depth);
}

}  // namespace

size_t neon_classifier_bytes(const Classifier& classifier) {
    const int panels = (classifier.classes + kPanel - 1) / kPanel;
    return kHeaderBytes + panels * panel_bytes(classifier.depth);
}

void neon_classifier_pack(const Classifier& classifier, void* packed) {
    static_cast<Header*>(packed)->depth = classifier.depth;
    auto* at = static_cast<uint8_t*>(packed) + kHeaderBytes;
    for (int first = 0; first < classifier.classes; first += kPanel) {
        auto* constants = reinterpret_cast<PanelConstants*>(at);
        *constants = PanelConstants{};
        for (int c = 0; c < kPanel && first + c < classifier.classes; ++c) {
            constants->bias[c] = classifier.bias[first + c];
            constants->scale[c] = classifier.scale[first + c];
        }
        const auto weight = [&](int channel, int k) -> int8_t {
            if (first + channel >= classifier.classes) return 0;
            return classifier.weight[static_cast<size_t>(first + channel) * classifier.depth + k];
        };
        pack_weights(2, classifier.depth, reinterpret_cast<int8_t*>(constants + 1), weight);
        at += panel_bytes(classifier.depth);
    }
}

void neon_classify(const void* packed, const uint8_t* features, int first_class, int last_class,
                   float* logits) {
    const int depth = static_cast<const Header*>(packed)->depth;
    const size_t bytes = panel_bytes(depth);
    const auto* at =
        static_cast<const uint8_t*>(packed) + kHeaderBytes + first_class / kPanel * bytes;
    for (int first = first_class; first < last_class; first += kPanel, at += bytes) {
        const auto& constants = *reinterpret_cast<const PanelConstants*>(at);
        int32x4_t sums[1][4];
        for (int q = 0; q < 4; ++q) sums[0][q] = vld1q_s32(constants.bias + 4 * q);
        const uint8_t* in[1] = {features};
        accumulate<1, 2>(in, reinterpret_cast<const int8_t*>(&constants + 1), depth, sums);
        float results[kPanel];
        for (int q = 0; q < 4; ++q) {
            vst1q_f32(results + 4 * q,
                      vmulq_f32(vcvtq_f32_s32(sums[0][q]), vld1q_f32(constants.scale + 4 * q)));
        }
        const int left = last_class - first;
        std::memcpy(logits + first, results, (left < kPanel ? left : kPanel) * sizeof(float));
    }
}

}  // namespace effnet_edge
