// The plain NEON kernels, as their table in neon_table.cc names them; kernel.h says what each does.
#pragma once

#include <utility>

#include "../kernel.h"

// Tiles fill the 32 registers. GCC's scheduler before register allocation reorders them until sums
// are spilled: 131 instructions instead of 111 in the inner loop of 1x1 convolutions. The one after
// allocation does what there is to do.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("no-schedule-insns")
#endif

// Sums live in arrays of registers: a function that isn't inlined would put them into memory.
#define EFFNET_EDGE_INLINE inline __attribute__((always_inline))
#define EFFNET_EDGE_INLINE_LAMBDA __attribute__((always_inline))

namespace effnet_edge {

// Calls step(0) to step(kSteps - 1), each with its index as a constant type.
template <class Step, int... kIndex>
EFFNET_EDGE_INLINE void unroll(const Step& step, std::integer_sequence<int, kIndex...>) {
    (step(std::integral_constant<int, kIndex>()), ...);
}

template <int kSteps, class Step>
EFFNET_EDGE_INLINE void unroll(const Step& step) {
    unroll(step, std::make_integer_sequence<int, kSteps>());
}

size_t neon_pointwise_bytes(const Stage& stage);
void neon_pointwise_pack(const Stage& stage, void* packed);
void neon_pointwise(const void* packed, const PointwiseRun& run);

size_t neon_depthwise_bytes(const Stage& stage);
void neon_depthwise_pack(const Stage& stage, void* packed);
void neon_depthwise(const void* packed, const DepthwiseRun& run);

size_t neon_classifier_bytes(const Classifier& classifier);
void neon_classifier_pack(const Classifier& classifier, void* packed);
void neon_classify(const void* packed, const uint8_t* features, int first_class, int last_class,
                   float* logits);

void neon_gate(const GateRun& run);
void neon_add(const AddRun& run);
void neon_sum(const SumRun& run);

}  // namespace effnet_edge
