// The table of the kernels with dot products.
#include "arm.h"
#include "dot_kernels.h"

namespace effnet_edge {

const Kernels kNeonDot = {"neon-dotprod",
                          /*signed_maps=*/true,
                          /*fixed_point=*/true,
                          /*reads_stages=*/false,
                          kDotPanel,
                          dot_pointwise_bytes,
                          dot_pointwise_pack,
                          dot_pointwise,
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
