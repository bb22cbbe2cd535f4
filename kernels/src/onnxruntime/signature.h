// The operators: what converters/quantized_onnx_functions.py calls functions, and their inputs.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "abi.h"

namespace effnet_edge {

enum class Act { kNone, kSilu, kScaledSilu };

enum class PartKind { kPixels, kStem, kMBConv, kHead };

// The structure of a part, which its name spells.
struct Structure {
    PartKind kind;
    Act act = Act::kNone;  // of the stem's, the head's or the depthwise convolution
    bool expand = false;
    Act expand_act = Act::kNone;
    bool gate = false;
    Act gate_act = Act::kNone;
    bool residual = false;
};

struct Signature {
    explicit Signature(const Structure& structure);

    Structure structure;
    std::string name;
    size_t inputs = 1;  // of a node, the map included
    ONNXTensorElementDataType output;
    size_t spatial_weight = 0;  // the input with the kernel that the strides belong to
    size_t last_weight = 0;     // the input with as many rows as the output has channels
};

// One for every name of the grammar, and "Pixels".
std::vector<Signature> all_signatures();

}  // namespace effnet_edge
