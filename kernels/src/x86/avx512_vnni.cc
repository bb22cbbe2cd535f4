// The kernels of "avx512-vnni".
#include "avx512_depthwise.h"
#include "avx512_pointwise.h"
#include "x86.h"

namespace effnet_edge {

const Kernels kAvx512Vnni = {"avx512-vnni",
                             false,
                             false,
                             false,
                             avx512::kPanel,
                             avx512::pointwise_bytes,
                             avx512::pointwise_pack,
                             avx512::run_pointwise,
                             avx512::depthwise_bytes,
                             avx512::depthwise_pack,
                             avx512::run_depthwise,
                             avx512::classifier_bytes,
                             avx512::classifier_pack,
                             avx512::classify,
                             avx512::gate,
                             avx512::add,
                             avx512::sum};

}  // namespace effnet_edge
