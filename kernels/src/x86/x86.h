// The tables of kernels for x86-64. Which of them a processor can run is for dispatch.cc to ask: to
// touch the code of any other is an illegal instruction.
#pragma once

#include "../kernel.h"

namespace effnet_edge {

extern const Kernels kAvx2;         // AVX2 and FMA
extern const Kernels kAvxVnni;      // the same and AVX-VNNI: 256-bit byte products without AVX-512
extern const Kernels kAvxVnniEvex;  // of tests alone: kAvxVnni as AVX-512 VL and VNNI encode it
extern const Kernels kAvx512Vnni;   // AVX-512 F, BW, VL, DQ and VNNI
extern const Kernels kAvx512Vbmi;   // the same and VBMI: table lookups by VPERMI2B

}  // namespace effnet_edge
