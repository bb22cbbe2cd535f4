// The operators as ONNX Runtime sees them.
#pragma once

#include "abi.h"
#include "signature.h"

namespace effnet_edge {

// An operator whose kernels divide their work among `threads` threads of their session.
class Operator : public OrtCustomOp {
  public:
    Operator(const OrtApi& api, const Signature& signature, int threads);

    const OrtApi& api() const { return api_; }
    const Signature& signature() const { return signature_; }
    int threads() const { return threads_; }

  private:
    const OrtApi& api_;
    const Signature signature_;
    const int threads_;
};

}  // namespace effnet_edge
