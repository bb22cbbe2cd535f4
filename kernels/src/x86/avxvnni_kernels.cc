// Kernels for processors with AVX2, FMA and AVX-VNNI.
//
// Tests compile this file once more, with EFFNET_EDGE_EVEX and for AVX-512 VL and VNNI: the same
// kernels in the other encoding of VPDPBUSD, for processors that have that one.
#include "x86.h"

#include "avxvnni_quads.h"

#include "avx2_table.h"

namespace effnet_edge {

#if defined(EFFNET_EDGE_EVEX)
const Kernels kAvxVnniEvex = make_kernels("avx-vnni-evex");
#else
const Kernels kAvxVnni = make_kernels("avx-vnni");
#endif

}  // namespace effnet_edge
