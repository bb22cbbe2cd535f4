// Which kernels this processor can run.
#pragma once

#include <vector>

#include "kernel.h"

namespace effnet_edge {

// All that this build has and this processor runs, the best first, the scalar ones last.
const std::vector<const Kernels*>& usable_kernels();

// The best, or the one that the environment variable EFFNET_EDGE_ISA names. nullptr if it names
// none of `usable_kernels`.
const Kernels* chosen_kernels();

}  // namespace effnet_edge
