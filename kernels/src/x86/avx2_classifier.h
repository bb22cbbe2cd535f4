// The classifier: each class a dot product over the features. It is bound by reading the weights,
// which stay bytes.
#pragma once

#include "avx2_group.h"

namespace effnet_edge {
namespace {

constexpr int kFeatures = 32;  // depth is padded to a multiple
constexpr int kClasses = 4;    // at a time

// Followed by bias and scale of each class, then weights [classes][padded depth].
struct alignas(64) PackedClassifier {
    int classes;  // a multiple of kClasses
    int depth;
    int padded_depth;

    size_t constants_bytes() const { return (classes * sizeof(int32_t) + 63) / 64 * 64; }
    const uint8_t* begin() const { return reinterpret_cast<const uint8_t*>(this); }
    const int32_t* bias() const {
        return reinterpret_cast<const int32_t*>(begin() + sizeof(PackedClassifier));
    }
    const float* scale() const {
        return reinterpret_cast<const float*>(begin() + sizeof(PackedClassifier) +
                                              constants_bytes());
    }
    const int8_t* weights(int first_class) const {
        return reinterpret_cast<const int8_t*>(begin() + sizeof(PackedClassifier) +
                                               2 * constants_bytes()) +
               static_cast<size_t>(first_class) * padded_depth;
    }
};

PackedClassifier classifier_layout(const Classifier& classifier) {
    PackedClassifier packed{};
    packed.classes = (classifier.classes + kClasses - 1) / kClasses * kClasses;
    packed.depth = classifier.depth;
    packed.padded_depth = (classifier.depth + kFeatures - 1) / kFeatures * kFeatures;
    return packed;
}

size_t classifier_bytes(const Classifier& classifier) {
    const PackedClassifier packed = classifier_layout(classifier);
    return sizeof packed + 2 * packed.constants_bytes() +
           static_cast<size_t>(packed.classes) * packed.padded_depth;
}

void classifier_pack(const Classifier& classifier, void* memory) {
    const PackedClassifier layout = classifier_layout(classifier);
    std::memset(memory, 0, classifier_bytes(classifier));
    std::memcpy(memory, &layout, sizeof layout);
    const auto& packed = *static_cast<const PackedClassifier*>(memory);
    const size_t count = static_cast<size_t>(classifier.classes);
    std::memcpy(const_cast<int32_t*>(packed.bias()), classifier.bias.data(),
                count * sizeof(int32_t));
    std::memcpy(const_cast<float*>(packed.scale()), classifier.scale.data(), count * sizeof(float));
    for (int c = 0; c < classifier.classes; ++c) {
        std::memcpy(const_cast<int8_t*>(packed.weights(c)),
                    classifier.weight.data() + static_cast<size_t>(c) * classifier.depth,
                    static_cast<size_t>(classifier.depth));
    }
}

inline __m128i sum_lanes(const __m256i (&sums)[kClasses]) {
    const __m256i pairs =
        _mm256_hadd_epi32(_mm256_hadd_epi32(sums[0], sums[1]), _mm256_hadd_epi32(sums[2], sums[3]));
    return _mm_add_epi32(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256(pairs, 1));
}

void classify(const void* memory, const uint8_t* features, int first_class, int last_class,
              float* logits) {
    const auto& packed = *static_cast<const PackedClassifier*>(memory);
    const int whole = packed.depth / kFeatures * kFeatures;
    uint8_t rest[kFeatures] = {};
    std::memcpy(rest, features + whole, static_cast<size_t>(packed.depth - whole));
    for (int c = first_class; c < last_class; c += kClasses) {
        __m256i sums[kClasses];
        for (int i = 0; i < kClasses; ++i) sums[i] = _mm256_setzero_si256();
        const int8_t* weights = packed.weights(c);
        for (int k = 0; k < packed.padded_depth; k += kFeatures) {
            const uint8_t* from = k < whole ? features + k : rest;
            for (int i = 0; i < kClasses; ++i) {
                sums[i] = multiply_bytes(sums[i], from, weights + i * packed.padded_depth + k);
            }
        }
        const __m128i total = _mm_add_epi32(
            sum_lanes(sums), _mm_load_si128(reinterpret_cast<const __m128i*>(packed.bias() + c)));
        const __m128 results = _mm_mul_ps(_mm_cvtepi32_ps(total), _mm_load_ps(packed.scale() + c));
        if (last_class - c >= kClasses) {
            _mm_storeu_ps(logits + c, results);
        } else {
            float all[kClasses];
            _mm_storeu_ps(all, results);
            for (int i = 0; c + i < last_class; ++i) logits[c + i] = all[i];
        }
    }
}

}  // namespace
}  // namespace effnet_edge
