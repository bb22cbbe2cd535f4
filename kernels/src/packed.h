// Weights packed for the chosen kernels, and the stage that they came from.
#pragma once

#include <cstdlib>
#include <memory>
#include <new>

#include "kernel.h"
#include "scratch.h"

namespace effnet_edge {

struct Free {
    void operator()(void* memory) const { std::free(memory); }
};
using Memory = std::unique_ptr<void, Free>;

inline Memory aligned_memory(size_t bytes) {
    Memory memory(std::aligned_alloc(kAlignment, round_up(bytes + 1, kAlignment)));
    if (memory == nullptr) throw std::bad_alloc();
    return memory;
}

// A 1x1 convolution, ready to run.
class Pointwise {
  public:
    Pointwise() = default;
    Pointwise(const Kernels& kernels, Stage stage)
        : kernels_(&kernels), stage_(std::make_unique<Stage>(std::move(stage))) {
        memory_ = aligned_memory(kernels.pointwise_bytes(*stage_));
        kernels.pointwise_pack(*stage_, memory_.get());
        channels_ = stage_->channels;
        depth_ = stage_->depth;
        forget_weights(kernels, stage_);
    }
    void run(const PointwiseRun& run) const { kernels_->pointwise(memory_.get(), run); }
    int channels() const { return channels_; }
    int depth() const { return depth_; }
    int panels() const { return (channels_ + kernels_->panel - 1) / kernels_->panel; }

    // The scalar kernels read the stage itself; for all others its memory is spared.
    template <class What>
    static void forget_weights(const Kernels& kernels, std::unique_ptr<What>& what) {
        if (!kernels.reads_stages) what.reset();
    }

  private:
    const Kernels* kernels_ = nullptr;
    std::unique_ptr<Stage> stage_;
    Memory memory_;
    int channels_ = 0, depth_ = 0;
};

class Depthwise {
  public:
    Depthwise() = default;
    Depthwise(const Kernels& kernels, Stage stage)
        : kernels_(&kernels), stage_(std::make_unique<Stage>(std::move(stage))) {
        memory_ = aligned_memory(kernels.depthwise_bytes(*stage_));
        kernels.depthwise_pack(*stage_, memory_.get());
        channels_ = stage_->channels;
        Pointwise::forget_weights(kernels, stage_);
    }
    void run(const DepthwiseRun& run) const { kernels_->depthwise(memory_.get(), run); }
    int channels() const { return channels_; }
    int panels() const { return (channels_ + kernels_->panel - 1) / kernels_->panel; }

  private:
    const Kernels* kernels_ = nullptr;
    std::unique_ptr<Stage> stage_;
    Memory memory_;
    int channels_ = 0;
};

class PackedClassifier {
  public:
    PackedClassifier() = default;
    PackedClassifier(const Kernels& kernels, Classifier classifier)
        : kernels_(&kernels), classifier_(std::make_unique<Classifier>(std::move(classifier))) {
        memory_ = aligned_memory(kernels.classifier_bytes(*classifier_));
        kernels.classifier_pack(*classifier_, memory_.get());
        Pointwise::forget_weights(kernels, classifier_);
    }
    void run(const uint8_t* features, int first, int last, float* logits) const {
        kernels_->classify(memory_.get(), features, first, last, logits);
    }

  private:
    const Kernels* kernels_ = nullptr;
    std::unique_ptr<Classifier> classifier_;
    Memory memory_;
};

}  // namespace effnet_edge
