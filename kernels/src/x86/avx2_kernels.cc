// Kernels for processors with AVX2 and FMA.
#include "x86.h"

#include "avx2_words.h"

#include "avx2_table.h"

namespace effnet_edge {

const Kernels kAvx2 = make_kernels("avx2");

}  // namespace effnet_edge
