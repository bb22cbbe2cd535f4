// ONNX Runtime's interface as the rest of the binding wants it: failures are exceptions, which
// never leave the binding, and shapes are vectors.
#pragma once

#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "abi.h"

namespace effnet_edge {

// Throws what a failed call says.
inline void check(const OrtApi& api, OrtStatus* status) {
    if (status == nullptr) return;
    const std::string message = api.GetErrorMessage(status);
    api.ReleaseStatus(status);
    throw std::runtime_error(message);
}

// Runs `work`, and turns what it throws into a status.
template <typename Work>
OrtStatus* status_of(const OrtApi& api, Work work) noexcept {
    try {
        work();
        return nullptr;
    } catch (const std::exception& error) {
        return api.CreateStatus(ORT_FAIL, error.what());
    }
}

// What ONNX Runtime tells of a tensor's type and shape.
class Shape {
  public:
    // Of a tensor.
    Shape(const OrtApi& api, const OrtValue* tensor) : api_(api) {
        check(api, api.GetTensorTypeAndShape(tensor, &info_));
        owned_.reset(info_);
    }
    // One to be filled.
    explicit Shape(const OrtApi& api) : api_(api) {
        check(api, api.CreateTensorTypeAndShapeInfo(&info_));
        owned_.reset(info_);
    }
    // Of what belongs to somebody else.
    Shape(const OrtApi& api, OrtTensorTypeAndShapeInfo* borrowed) : api_(api), info_(borrowed) {}

    OrtTensorTypeAndShapeInfo* info() const { return info_; }

    ONNXTensorElementDataType type() const {
        ONNXTensorElementDataType type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
        check(api_, api_.GetTensorElementType(info_, &type));
        return type;
    }

    // -1 stands for one that isn't known.
    std::vector<int64_t> dimensions() const {
        size_t rank = 0;
        check(api_, api_.GetDimensionsCount(info_, &rank));
        std::vector<int64_t> found(rank);
        check(api_, api_.GetDimensions(info_, found.data(), rank));
        return found;
    }

  private:
    const OrtApi& api_;
    OrtTensorTypeAndShapeInfo* info_ = nullptr;
    std::unique_ptr<OrtTensorTypeAndShapeInfo, void (*)(OrtTensorTypeAndShapeInfo*)> owned_{
        nullptr, api_.ReleaseTensorTypeAndShapeInfo};
};

}  // namespace effnet_edge
