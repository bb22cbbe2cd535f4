// The table of the kernels with matrix products.
#include "arm.h"
#include "dot_kernels.h"
#include "i8mm_kernels.h"

namespace effnet_edge {

const Kernels kNeonI8mm = {"neon-i8mm",
                           /*signed_maps=*/true,
                           /*fixed_point=*/true,
                           /*reads_stages=*/false,
                           kDotPanel,
                           i8mm_pointwise_bytes,
                           i8mm_pointwise_pack,
                           i8mm_pointwise,
                           dot_depthwise_bytes,
                           dot_depthwise_pack,
                           dot_depthwise,
                           dot_classifier_bytes,
                           dot_classifier_pack,
                           dot_classify,
                           dot_gate,
                           dot_add,
                           dot_sum};

}  // namespace effnet_edge
