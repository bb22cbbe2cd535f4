// The table of kernels, for whichever products were included before.
#pragma once

#include "../kernel.h"
#include "avx2_classifier.h"
#include "avx2_depthwise.h"
#include "avx2_elementwise.h"
#include "avx2_pointwise.h"

namespace effnet_edge {
namespace {

constexpr Kernels make_kernels(const char* name) {
    return {name,
            false,  // signed_maps
            false,  // fixed_point
            false,  // reads_stages
            kPanel,
            pointwise_bytes,
            pointwise_pack,
            pointwise,
            depthwise_bytes,
            depthwise_pack,
            depthwise,
            classifier_bytes,
            classifier_pack,
            classify,
            gate,
            add,
            sum};
}

}  // namespace
}  // namespace effnet_edge
