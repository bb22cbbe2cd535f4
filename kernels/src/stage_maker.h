// From a convolution of the network to a stage of kernels.
#pragma once

#include <vector>

#include "activation.h"
#include "effnet_edge_kernels.h"
#include "kernel.h"

namespace effnet_edge {

constexpr int kMostKernel = 15;

// What a convolution reads: position i of a pixel is the network's channel order[i], or padding
// where that is -1.
struct StageInput {
    ee_quantization quantization;
    std::vector<int> order;
};

// The channels 0..n-1 in their own order, padded with -1 to a multiple of `multiple`.
std::vector<int> padded_order(int channels, int multiple);

// A 1x1 convolution, or with a kernel one over patches: `conv.weight` as [out][in * kernel *
// kernel] in the order of `input.order`. Its outputs are padded to a multiple of `multiple`.
Stage pointwise_stage(const Kernels& kernels, const ee_conv& conv, const StageInput& input,
                      int multiple);

// Channels are padded to a multiple of 16.
Stage depthwise_stage(const Kernels& kernels, const ee_conv& conv, ee_quantization input);

// A matrix of int8 [classes][features] that one pixel is multiplied by. Results are in units of
// `unit`; features are padded to a multiple of 16, classes to one of `multiple`, with zeros.
Classifier make_classifier(const Kernels& kernels, ee_quantization features, int depth, int classes,
                           const int8_t* weight, const float* weight_scale, const int32_t* bias,
                           double unit = 1, int multiple = 1);

// A zero point as maps store it.
int stored_zero_point(const Kernels& kernels, ee_quantization quantization);

// Throws Unsupported, naming `what`, unless the scale is a positive number and the zero point a
// byte.
void check_quantization(ee_quantization quantization, const char* what);
void check_conv(const ee_conv& conv, const char* what);

}  // namespace effnet_edge
