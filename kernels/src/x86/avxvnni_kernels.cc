// Kernels for processors with AVX2, FMA and AVX-VNNI.
#include "x86.h"

#include "avxvnni_quads.h"

#include "avx2_table.h"

namespace effnet_edge {

const Kernels kAvxVnni = make_kernels("avx-vnni");

}  // namespace effnet_edge
