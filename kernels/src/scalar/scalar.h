// The reference: the arithmetic of arithmetic.h in plain loops, for any processor.
#pragma once

#include "../kernel.h"

namespace effnet_edge {

extern const Kernels kScalar;       // as the x86 kernels: unsigned maps, float requantization
extern const Kernels kScalarFixed;  // as the ARM kernels: signed maps, fixed point

}  // namespace effnet_edge
