// A part from the constants and attributes of its node.
#pragma once

#include <cstdint>
#include <memory>

#include "abi.h"
#include "effnet_edge_kernels.h"
#include "signature.h"

namespace effnet_edge {

struct FreePart {
    void operator()(ee_part* part) const { ee_free_part(part); }
};

struct NodePart {
    std::unique_ptr<ee_part, FreePart> part;
    int64_t in_channels;
};

// Throws if the node's inputs aren't constants of fitting shapes, or the kernels refuse them.
NodePart part_of_node(const OrtApi& api, const OrtKernelInfo* info, const Signature& signature);

}  // namespace effnet_edge
