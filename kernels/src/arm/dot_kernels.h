// The kernels with dot products, as dot_table.cc and i8mm_table.cc name them; kernel.h says what
// each does.
#pragma once

#include "../kernel.h"
#include "dot_constants.h"

namespace effnet_edge {

constexpr int kDotPanel = 48;  // of six times any multiple of 8 there is no part left

size_t dot_pointwise_bytes(const Stage& stage);
void dot_pointwise_pack(const Stage& stage, void* packed);
void dot_pointwise(const void* packed, const PointwiseRun& run);

size_t dot_depthwise_bytes(const Stage& stage);
void dot_depthwise_pack(const Stage& stage, void* packed);
void dot_depthwise(const void* packed, const DepthwiseRun& run);

size_t dot_classifier_bytes(const Classifier& classifier);
void dot_classifier_pack(const Classifier& classifier, void* packed);
void dot_classify(const void* packed, const uint8_t* features, int first_class, int last_class,
                  float* logits);

// Sums in memory to stored bytes, where they don't go straight from registers to an epilogue.
struct FinishRun {
    const int32_t* sums;  // vectors of 16: two halves of 8 channels each
    int vectors;
    const DotConstants* constants;
    int high_channel;  // the first channel of upper halves: 0 (of another pixel) or 8
    uint8_t* low;      // where the halves of the first vector go
    uint8_t* high;
    size_t stride;    // from one vector to the next
    int16_t* totals;  // [2][8], lower and upper halves: the bytes as stored are added to them
};
using Finish = void (*)(const FinishRun& run, const DotEpilogue& epilogue);
Finish dot_finish(const DotEpilogue& epilogue);

void dot_gate(const GateRun& run);
void dot_add(const AddRun& run);
void dot_sum(const SumRun& run);

}  // namespace effnet_edge
