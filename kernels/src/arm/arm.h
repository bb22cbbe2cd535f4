// The kernels for ARM, from any with NEON to the newest.
#pragma once

#include "../kernel.h"

namespace effnet_edge {

extern const Kernels kNeon;      // every AArch64 processor, and ARMv7 ones with NEON
extern const Kernels kNeonDot;   // ARMv8.2 dot products: Cortex-A75, A76 (Raspberry Pi 5) and later
extern const Kernels kNeonI8mm;  // ARMv8.6 matrix products: Cortex-A510, A710, Neoverse V1, ...

}  // namespace effnet_edge
