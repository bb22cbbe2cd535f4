// What ONNX Runtime must know of an operator's output before it runs.
#pragma once

#include "abi.h"
#include "signature.h"

namespace effnet_edge {

// States the output's shape, if enough of the input's is known. Throws for inputs that can't be.
void infer_output_shape(const OrtApi& api, const Signature& signature,
                        OrtShapeInferContext* context);

}  // namespace effnet_edge
