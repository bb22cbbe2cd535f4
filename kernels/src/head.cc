// The head: 1x1 convolution, mean over the map, classifier.
#include <cstring>
#include <string>

#include "map_conversion.h"
#include "mean_quantizer.h"
#include "packed.h"
#include "part.h"
#include "scheduling.h"
#include "stage_maker.h"
#include "unsupported.h"

namespace effnet_edge {
namespace {

constexpr int kPixelsAtOnce = 256;
constexpr int kClassesPerTask = 128;

class Head final : public ee_part {
  public:
    Head(const Kernels& kernels, const ee_head& head);

    int value_bytes() const override { return 4; }
    int in_channels() const override { return in_channels_; }
    Shape output(int, int) const override { return {1, 1, classes_}; }
    size_t scratch(int height, int width, int threads, bool stored_input) const override {
        return layout(height, width, threads, stored_input, nullptr).bytes;
    }
    void run(const Run& run) const override;

  private:
    struct Layout {
        size_t bytes;
        uint8_t* input;
        int32_t* sums;
        uint8_t* features;
        uint8_t* lanes;
        size_t lane_bytes;
    };
    Layout layout(int height, int width, int threads, bool stored_input, void* memory) const;
    void sum_panel(const uint8_t* input, int pixels, int panel, uint8_t* scratch,
                   int32_t* sums) const;

    const Kernels& kernels_;
    int in_channels_, classes_;
    Pointwise conv_;
    MeanQuantizer features_;
    PackedClassifier classifier_;
};

Head::Head(const Kernels& kernels, const ee_head& head)
    : kernels_(kernels), in_channels_(head.conv.in_channels), classes_(head.classes) {
    check_quantization(head.input, "the head's input");
    check_quantization(head.features, "features");
    check_conv(head.conv, "head");
    if (head.conv.kernel != 1 || classes_ < 1 || head.weight == nullptr ||
        head.weight_scale == nullptr || head.bias == nullptr) {
        throw Unsupported("the head isn't a 1x1 convolution and a classifier");
    }
    conv_ = Pointwise(kernels, pointwise_stage(kernels, head.conv,
                                               {head.input, padded_order(in_channels_, 8)}, 16));
    features_ = MeanQuantizer(kernels, result_quantization(head.conv), head.features);
    classifier_ = PackedClassifier(
        kernels, make_classifier(kernels, head.features, head.conv.out_channels, head.classes,
                                 head.weight, head.weight_scale, head.bias));
}

Head::Layout Head::layout(int height, int width, int threads, bool stored_input,
                          void* memory) const {
    Scratch scratch(memory);
    Layout at{};
    if (MapConversion::needed(kernels_, in_channels_, stored_input)) {
        at.input = scratch.take<uint8_t>(MapConversion::bytes(height, width, in_channels_));
    }
    at.sums = scratch.take<int32_t>(conv_.channels());
    at.features = scratch.take<uint8_t>(conv_.channels());
    at.lane_bytes = static_cast<size_t>(kPixelsAtOnce) * kernels_.panel;
    at.lanes = scratch.take<uint8_t>(threads * at.lane_bytes);
    at.bytes = scratch.used();
    return at;
}

void Head::sum_panel(const uint8_t* input, int pixels, int panel, uint8_t* scratch,
                     int32_t* sums) const {
    const int first = panel * kernels_.panel;
    const int channels = std::min(kernels_.panel, conv_.channels() - first);
    const size_t stride = MapConversion::stride(in_channels_), wide = channels;
    std::memset(sums + first, 0, channels * sizeof(int32_t));
    for (int p = 0; p < pixels; p += kPixelsAtOnce) {
        const int count = std::min(kPixelsAtOnce, pixels - p);
        conv_.run(
            {input + p * stride, stride, scratch, wide, wide * count, 1, count, panel, panel + 1});
        kernels_.sum({scratch, wide, static_cast<size_t>(count), channels, sums + first});
    }
}

void Head::run(const Run& run) const {
    const Layout at =
        layout(run.height, run.width, thread_count(run.scheduler), run.stored_input, run.scratch);
    const uint8_t* input = run.input;
    if (at.input != nullptr) {
        MapConversion::run(kernels_, run, in_channels_, at.input);
        input = at.input;
    }
    const int pixels = run.height * run.width;
    run_tasks(run.scheduler, conv_.panels(), [&](int lane, int panel) {
        sum_panel(input, pixels, panel, at.lanes + lane * at.lane_bytes, at.sums);
    });
    features_.run(at.sums, conv_.channels(), pixels, at.features);
    float* logits = static_cast<float*>(run.output);
    run_tasks(run.scheduler, (classes_ + kClassesPerTask - 1) / kClassesPerTask,
              [&](int, int task) {
                  const int first = task * kClassesPerTask;
                  classifier_.run(at.features, first, std::min(first + kClassesPerTask, classes_),
                                  logits);
              });
}

}  // namespace

std::unique_ptr<ee_part> make_head(const Kernels& kernels, const ee_head& head) {
    return std::make_unique<Head>(kernels, head);
}

}  // namespace effnet_edge
