// The table of the plain NEON kernels: every ARMv8 processor, and ARMv7 with NEON.
#include "arm.h"
#include "neon_kernels.h"

namespace effnet_edge {

const Kernels kNeon = {"neon",
                       /*signed_maps=*/true,
                       /*fixed_point=*/true,
                       /*reads_stages=*/false,
                       /*panel=*/16,
                       neon_pointwise_bytes,
                       neon_pointwise_pack,
                       neon_pointwise,
                       neon_depthwise_bytes,
                       neon_depthwise_pack,
                       neon_depthwise,
                       neon_classifier_bytes,
                       neon_classifier_pack,
                       neon_classify,
                       neon_gate,
                       neon_add,
                       neon_sum};

}  // namespace effnet_edge
