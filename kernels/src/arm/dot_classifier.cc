// The classifier: a 1x1 convolution of one pixel, 16 classes at a time, with float results.
#pragma GCC optimize("no-schedule-insns")  // as in dot_pointwise.cc

#include <cstring>
#include <new>

#include "dot_kernels.h"
#include "dot_multiply.h"

namespace effnet_edge {
namespace {

// Behind it, for each 16 classes: biases, scales and weights.
struct alignas(64) Packed {
    int classes, depth;

    size_t block_bytes() const { return sizeof(Scales) + static_cast<size_t>(depth) * 16; }
    int blocks() const { return (classes + 15) / 16; }
    uint8_t* block(int index) {
        return reinterpret_cast<uint8_t*>(this + 1) + index * block_bytes();
    }
    const uint8_t* block(int index) const { return const_cast<Packed*>(this)->block(index); }

    struct Scales {
        int32_t bias[16];
        float scale[16];
    };
};

}  // namespace

size_t dot_classifier_bytes(const Classifier& classifier) {
    const Packed packed{classifier.classes, classifier.depth};
    return sizeof(Packed) + packed.blocks() * packed.block_bytes();
}

void dot_classifier_pack(const Classifier& classifier, void* memory) {
    Packed& packed = *new (memory) Packed{classifier.classes, classifier.depth};
    for (int b = 0; b < packed.blocks(); ++b) {
        auto& scales = *reinterpret_cast<Packed::Scales*>(packed.block(b));
        std::memset(&scales, 0, sizeof scales);
        for (int i = 0; i < 16 && b * 16 + i < classifier.classes; ++i) {
            scales.bias[i] = classifier.bias[b * 16 + i];
            scales.scale[i] = classifier.scale[b * 16 + i];
        }
        const auto weight = [&](int i, int k) -> int8_t {
            const int c = b * 16 + i;
            return c < classifier.classes
                       ? classifier.weight[static_cast<size_t>(c) * classifier.depth + k]
                       : 0;
        };
        pack_weights(4, classifier.depth, reinterpret_cast<int8_t*>(&scales + 1), weight);
    }
}

void dot_classify(const void* memory, const uint8_t* features, int first_class, int last_class,
                  float* logits) {
    const Packed& packed = *static_cast<const Packed*>(memory);
    for (int c = first_class; c < last_class; c += 16) {
        const auto& scales = *reinterpret_cast<const Packed::Scales*>(packed.block(c / 16));
        const uint8_t* in[1] = {features};
        int32x4_t sums[4];
        const int8_t* weights = reinterpret_cast<const int8_t*>(&scales + 1);
        accumulate<1, 4>(in, weights, packed.depth, scales.bias, sums);
        float results[16];
        for (int v = 0; v < 4; ++v) {
            vst1q_f32(results + 4 * v,
                      vmulq_f32(vcvtq_f32_s32(sums[v]), vld1q_f32(scales.scale + 4 * v)));
        }
        const int count = last_class - c < 16 ? last_class - c : 16;
        std::memcpy(logits + c, results, count * sizeof(float));
    }
}

}  // namespace effnet_edge
