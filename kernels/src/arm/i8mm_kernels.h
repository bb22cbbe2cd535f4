// The kernels with matrix products; all others are those of dot_kernels.h.
#pragma once

#include "../kernel.h"

namespace effnet_edge {

size_t i8mm_pointwise_bytes(const Stage& stage);
void i8mm_pointwise_pack(const Stage& stage, void* packed);
void i8mm_pointwise(const void* packed, const PointwiseRun& run);

}  // namespace effnet_edge
