#include "stage_maker.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <numeric>
#include <string>

#include "requantizer.h"
#include "scratch.h"
#include "unsupported.h"

namespace effnet_edge {
namespace {

constexpr int kMostChannels = 1 << 16;

// The largest magnitude of a stored byte.
int most_stored(const Kernels& kernels) { return kernels.signed_maps ? 128 : 255; }

// Output channels as they are added, each with its weights in `row`.
class Outputs {
  public:
    Outputs(const Kernels& kernels, const ee_conv& conv, ee_quantization input)
        : kernels_(kernels),
          conv_(conv),
          input_scale_(input.scale),
          zero_point_(stored_zero_point(kernels, input)),
          activation_(make_activation(kernels, conv)) {}

    void add_padding() {
        scales_.push_back({});
        if (activation_.product) ratios_.push_back(0);
    }

    void add(int channel, int8_t* row, int inputs) {
        // Of bytes, at most 2^16 channels or 2^6 taps: 32 bits hold them, and add up faster.
        int32_t sum = 0, magnitude = 0;
        for (int i = 0; i < inputs; ++i) {
            sum += row[i];
            magnitude += std::abs(row[i]);
        }
        // With a product, the requantizer's steps are those of the result.
        const double step = activation_.product ? conv_.silu->output.scale : conv_.output.scale;
        ChannelScale scale;
        scale.multiplier = input_scale_ * static_cast<double>(conv_.weight_scale[channel]) / step;
        scale.bias = conv_.bias[channel] - zero_point_ * static_cast<double>(sum);
        scale.bound = static_cast<double>(magnitude) * most_stored(kernels_);
        if (activation_.product) {
            ratios_.push_back(argument_ratio(conv_, channel) * step / conv_.output.scale);
        }
        if (kernels_.fixed_point && constant_channel(scale)) {
            scale.bias = conv_.bias[channel];  // what it gives for an input of zero
            scale.bound = 0;
            std::fill(row, row + inputs, int8_t{0});
        }
        scales_.push_back(scale);
    }

    void finish(Stage& stage) {
        stage.signed_maps = kernels_.signed_maps;
        stage.activation = activation_;
        stage.requantizer = requantize_channels(scales_, ratios_, conv_.output.zero_point,
                                                kernels_.fixed_point, stage.activation);
    }

  private:
    const Kernels& kernels_;
    const ee_conv& conv_;
    double input_scale_;
    int zero_point_;
    Activation activation_;
    std::vector<ChannelScale> scales_;
    std::vector<double> ratios_;  // of a product's argument to its value
};

}  // namespace

void check_quantization(ee_quantization quantization, const char* what) {
    if (!(quantization.scale > 0) || !std::isfinite(quantization.scale) ||
        quantization.zero_point < 0 || quantization.zero_point > 255) {
        throw Unsupported(std::string(what) +
                          ": the scale isn't a positive number or the zero "
                          "point isn't 0 to 255");
    }
}

void check_conv(const ee_conv& conv, const char* what) {
    if (conv.in_channels < 1 || conv.out_channels < 1 || conv.in_channels > kMostChannels ||
        conv.out_channels > kMostChannels || conv.kernel < 1 || conv.kernel > kMostKernel ||
        conv.kernel % 2 == 0 || conv.stride < 1 || conv.stride > conv.kernel) {
        throw Unsupported(std::string(what) + ": the convolution's sizes aren't an EfficientNet's");
    }
    for (int pad : {conv.pad_top, conv.pad_left, conv.pad_bottom, conv.pad_right}) {
        if (pad < 0 || pad >= conv.kernel) {
            throw Unsupported(std::string(what) + ": padding must be less than the kernel");
        }
    }
    if (conv.weight == nullptr || conv.weight_scale == nullptr || conv.bias == nullptr) {
        throw Unsupported(std::string(what) + ": weights, scales or biases are missing");
    }
    for (int c = 0; c < conv.out_channels; ++c) {
        if (!(conv.weight_scale[c] >= 0) || !std::isfinite(conv.weight_scale[c])) {
            throw Unsupported(std::string(what) + ": a weight's scale isn't a number");
        }
    }
    check_quantization(conv.output, what);
    if (conv.silu != nullptr) {
        check_quantization(conv.silu->output, what);
        if (conv.silu->factor != nullptr) {
            check_quantization(conv.silu->factor_quantization, what);
            check_quantization(conv.silu->argument, what);
        }
    }
}

std::vector<int> padded_order(int channels, int multiple) {
    std::vector<int> order(channels);
    std::iota(order.begin(), order.end(), 0);
    order.resize(round_up(channels, multiple), -1);
    return order;
}

int stored_zero_point(const Kernels& kernels, ee_quantization quantization) {
    return quantization.zero_point - (kernels.signed_maps ? 128 : 0);
}

Stage pointwise_stage(const Kernels& kernels, const ee_conv& conv, const StageInput& input,
                      int multiple) {
    Stage stage;
    stage.channels = static_cast<int>(round_up(conv.out_channels, multiple));
    stage.depth = static_cast<int>(input.order.size());
    stage.weight.assign(static_cast<size_t>(stage.channels) * stage.depth, 0);
    const size_t row_length = static_cast<size_t>(conv.in_channels) * conv.kernel * conv.kernel;
    // In their own order, padded or not, rows are copied as they are.
    bool natural = input.order.size() >= row_length;
    for (size_t k = 0; natural && k < row_length; ++k) {
        natural = input.order[k] == static_cast<int>(k);
    }
    Outputs outputs(kernels, conv, input.quantization);
    for (int c = 0; c < conv.out_channels; ++c) {
        int8_t* row = &stage.weight[static_cast<size_t>(c) * stage.depth];
        const int8_t* from = conv.weight + c * row_length;
        if (natural) {
            std::copy_n(from, row_length, row);
        } else {
            for (int k = 0; k < stage.depth; ++k) {
                if (input.order[k] >= 0) row[k] = from[input.order[k]];
            }
        }
        outputs.add(c, row, stage.depth);
    }
    for (int c = conv.out_channels; c < stage.channels; ++c) outputs.add_padding();
    outputs.finish(stage);
    return stage;
}

Stage depthwise_stage(const Kernels& kernels, const ee_conv& conv, ee_quantization input) {
    Stage stage;
    stage.channels = static_cast<int>(round_up(conv.out_channels, 16));
    stage.taps = conv.kernel * conv.kernel;
    stage.stride = conv.stride;
    stage.weight.assign(static_cast<size_t>(stage.channels) * stage.taps, 0);
    std::copy_n(conv.weight, static_cast<size_t>(conv.out_channels) * stage.taps,
                stage.weight.begin());
    Outputs outputs(kernels, conv, input);
    for (int c = 0; c < conv.out_channels; ++c) {
        outputs.add(c, &stage.weight[static_cast<size_t>(c) * stage.taps], stage.taps);
    }
    for (int c = conv.out_channels; c < stage.channels; ++c) outputs.add_padding();
    outputs.finish(stage);
    return stage;
}

Classifier make_classifier(const Kernels& kernels, ee_quantization features, int depth, int classes,
                           const int8_t* weight, const float* weight_scale, const int32_t* bias,
                           double unit, int multiple) {
    Classifier classifier;
    classifier.classes = static_cast<int>(round_up(classes, multiple));
    classifier.depth = static_cast<int>(round_up(depth, 16));
    classifier.weight.assign(static_cast<size_t>(classifier.classes) * classifier.depth, 0);
    classifier.bias.assign(classifier.classes, 0);
    classifier.scale.assign(classifier.classes, 0);
    const int zero_point = stored_zero_point(kernels, features);
    for (int c = 0; c < classes; ++c) {
        const int8_t* from = weight + static_cast<size_t>(c) * depth;
        std::copy_n(from, depth, &classifier.weight[static_cast<size_t>(c) * classifier.depth]);
        const int32_t sum = std::accumulate(from, from + depth, 0);
        const double total = bias[c] - static_cast<double>(zero_point) * sum;
        if (std::fabs(total) + 255.0 * 127 * classifier.depth > 2147480000.0) {
            throw Unsupported("a matrix's sums may exceed 32 bits");
        }
        classifier.bias[c] = static_cast<int32_t>(total);
        const double scale = static_cast<double>(features.scale) * weight_scale[c] / unit;
        if (!std::isfinite(scale)) throw Unsupported("a matrix's scale isn't a number");
        classifier.scale[c] = static_cast<float>(scale);
    }
    return classifier;
}

}  // namespace effnet_edge
