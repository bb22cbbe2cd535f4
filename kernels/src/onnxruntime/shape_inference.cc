#include "shape_inference.h"

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "ort.h"

namespace effnet_edge {
namespace {

class Context {
  public:
    Context(const OrtApi& api, OrtShapeInferContext* context) : api_(api), context_(context) {}

    std::vector<int64_t> input_shape(size_t index) const { return input(index).dimensions(); }

    // The name of the batch's size, empty if that is a number or has none.
    std::string batch_name(size_t rank) const {
        std::vector<const char*> names(rank, "");
        check(api_, api_.GetSymbolicDimensions(input(0).info(), names.data(), rank));
        return names[0];
    }

    std::vector<int64_t> attribute(const char* name, size_t count) const {
        const OrtOpAttr* attribute = nullptr;
        check(api_, api_.ShapeInferContext_GetAttribute(context_, name, &attribute));
        std::vector<int64_t> values(count);
        const size_t bytes = count * sizeof(int64_t);
        size_t found = 0;
        check(api_, api_.ReadOpAttr(attribute, ORT_OP_ATTR_INTS, values.data(), bytes, &found));
        if (found != bytes) throw std::runtime_error(std::string(name) + " has another size");
        return values;
    }

    void set_output(ONNXTensorElementDataType type, const std::vector<int64_t>& shape,
                    const std::string& batch_name) const {
        const Shape output(api_);
        OrtTensorTypeAndShapeInfo* info = output.info();
        std::vector<const char*> names(shape.size(), "");
        names[0] = batch_name.c_str();
        check(api_, api_.SetTensorElementType(info, type));
        check(api_, api_.SetDimensions(info, shape.data(), shape.size()));
        check(api_, api_.SetSymbolicDimensions(info, names.data(), names.size()));
        check(api_, api_.ShapeInferContext_SetOutputTypeShape(context_, 0, info));
    }

  private:
    Shape input(size_t index) const {
        OrtTensorTypeAndShapeInfo* info = nullptr;
        check(api_, api_.ShapeInferContext_GetInputTypeShape(context_, index, &info));
        return Shape(api_, info);
    }

    const OrtApi& api_;
    OrtShapeInferContext* context_;
};

// Of one dimension of a map after a convolution.
int64_t convolved(int64_t size, int64_t pads, int64_t kernel, int64_t stride) {
    if (stride < 1 || size + pads < kernel) throw std::runtime_error("the map is too small");
    return (size + pads - kernel) / stride + 1;
}

}  // namespace

void infer_output_shape(const OrtApi& api, const Signature& signature,
                        OrtShapeInferContext* raw_context) {
    const Context context(api, raw_context);
    const std::vector<int64_t> map = context.input_shape(0);
    if (map.size() != 4) {
        if (map.empty()) return;  // nothing is known
        throw std::runtime_error("the map is not [N, height, width, channels]");
    }
    const std::string batch_name = context.batch_name(map.size());
    // A dimension with neither size nor name can't be stated, only a whole shape left unstated.
    if (map[0] < 0 && batch_name.empty()) return;
    if (std::any_of(map.begin() + 1, map.end(), [](int64_t size) { return size < 0; })) return;

    std::vector<int64_t> output = map;
    const PartKind kind = signature.structure.kind;
    if (kind != PartKind::kPixels) {
        const std::vector<int64_t> weight = context.input_shape(signature.last_weight);
        if (weight.empty()) return;
        output.back() = weight[0];
    }
    if (kind == PartKind::kHead) {
        output = {output.front(), output.back()};
    } else if (kind != PartKind::kPixels) {
        const std::vector<int64_t> weight = context.input_shape(signature.spatial_weight);
        if (weight.size() != 4) return;
        const std::vector<int64_t> strides = context.attribute("strides", 2);
        const std::vector<int64_t> pads = context.attribute("pads", 4);
        output[1] = convolved(map[1], pads[0] + pads[2], weight[2], strides[0]);
        output[2] = convolved(map[2], pads[1] + pads[3], weight[3], strides[1]);
    }
    context.set_output(signature.output, output, batch_name);
}

}  // namespace effnet_edge
