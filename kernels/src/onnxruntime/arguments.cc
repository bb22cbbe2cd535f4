#include "arguments.h"

#include <cstdint>
#include <deque>
#include <stdexcept>
#include <string>
#include <vector>

#include "ort.h"

namespace effnet_edge {
namespace {

template <typename T>
constexpr ONNXTensorElementDataType kType = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
template <>
constexpr ONNXTensorElementDataType kType<float> = ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
template <>
constexpr ONNXTensorElementDataType kType<uint8_t> = ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8;
template <>
constexpr ONNXTensorElementDataType kType<int8_t> = ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8;
template <>
constexpr ONNXTensorElementDataType kType<int32_t> = ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32;

// Takes a node's inputs one after the other, in the order of the grammar. What it hands out points
// into ONNX Runtime's constants and lives as long as the node does.
class Inputs {
  public:
    Inputs(const OrtApi& api, const OrtKernelInfo* info, size_t count) : api_(api), info_(info) {
        size_t given = 0;
        check(api, api.KernelInfo_GetInputCount(info, &given));
        if (given != count) throw std::runtime_error("the node has another number of inputs");
    }

    template <typename T>
    const T* array(const std::vector<int64_t>& shape) {
        std::vector<int64_t> found;
        const T* data = next<T>(&found);
        if (found != shape) wrong("shape");
        return data;
    }

    ee_quantization quantization() {
        ee_quantization result;
        result.scale = *array<float>({});
        result.zero_point = *array<uint8_t>({});
        return result;
    }

    ee_conv conv(Act act) {
        ee_conv conv = {};
        std::vector<int64_t> shape;
        conv.weight = next<int8_t>(&shape);
        if (shape.size() != 4 || shape[2] != shape[3]) wrong("shape");
        conv.out_channels = narrow(shape[0]);
        conv.in_channels = narrow(shape[1]);
        conv.kernel = narrow(shape[2]);
        conv.stride = 1;
        conv.weight_scale = array<float>({conv.out_channels});
        conv.bias = array<int32_t>({conv.out_channels});
        conv.output = quantization();
        if (act == Act::kNone) return conv;
        ee_silu silu = {};
        if (act == Act::kScaledSilu) {
            silu.factor = array<uint8_t>({conv.out_channels, 1, 1});
            silu.factor_quantization = quantization();
            silu.argument = quantization();
        }
        silu.output = quantization();
        silus_.push_back(silu);
        conv.silu = &silus_.back();
        return conv;
    }

    // A convolution with the node's attributes.
    ee_conv spatial_conv(Act act) {
        ee_conv result = conv(act);
        int64_t strides[2];
        int64_t pads[4];
        attribute("strides", strides, 2);
        attribute("pads", pads, 4);
        if (strides[0] != strides[1]) throw std::runtime_error("strides differ");
        result.stride = narrow(strides[0]);
        result.pad_top = narrow(pads[0]);
        result.pad_left = narrow(pads[1]);
        result.pad_bottom = narrow(pads[2]);
        result.pad_right = narrow(pads[3]);
        return result;
    }

    // An int8 matrix [rows, columns]; gives the rows.
    int32_t matrix(int64_t columns, const int8_t** data) {
        std::vector<int64_t> shape;
        *data = next<int8_t>(&shape);
        if (shape.size() != 2 || shape[1] != columns) wrong("shape");
        return narrow(shape[0]);
    }

  private:
    template <typename T>
    const T* next(std::vector<int64_t>* shape) {
        int is_constant = 0;
        const OrtValue* value = nullptr;
        check(api_, api_.KernelInfoGetConstantInput_tensor(info_, ++index_, &is_constant, &value));
        if (!is_constant || value == nullptr) wrong("source: it must be a constant");
        const Shape found(api_, value);
        if (found.type() != kType<T>) wrong("type");
        *shape = found.dimensions();
        void* data = nullptr;
        // The interface has no other way to const data.
        check(api_, api_.GetTensorMutableData(const_cast<OrtValue*>(value), &data));
        return static_cast<const T*>(data);
    }

    void attribute(const char* name, int64_t* values, size_t count) {
        size_t found = count;
        check(api_, api_.KernelInfoGetAttributeArray_int64(info_, name, values, &found));
        if (found != count) throw std::runtime_error(std::string(name) + " has another size");
    }

    [[noreturn]] void wrong(const char* what) const {
        throw std::runtime_error("input " + std::to_string(index_) + " has an unexpected " + what);
    }

    static int32_t narrow(int64_t value) {
        if (value < 0 || value > INT32_MAX) throw std::runtime_error("a size is out of range");
        return static_cast<int32_t>(value);
    }

    const OrtApi& api_;
    const OrtKernelInfo* info_;
    size_t index_ = 0;           // 0 is the map
    std::deque<ee_silu> silus_;  // where pointers stay valid
};

NodePart made(ee_part* part, int64_t in_channels) {
    if (part == nullptr) throw std::runtime_error(ee_error());
    return {std::unique_ptr<ee_part, FreePart>(part), in_channels};
}

NodePart pixels(Inputs& in) {
    const float* offset = in.array<float>({3});
    return made(ee_make_pixels(offset, in.quantization()), 3);
}

NodePart stem(Inputs& in, const Structure& structure) {
    ee_stem stem = {};
    stem.input = in.quantization();
    stem.conv = in.spatial_conv(structure.act);
    return made(ee_make_stem(&stem), stem.conv.in_channels);
}

NodePart mbconv(Inputs& in, const Structure& structure) {
    ee_mbconv block = {};
    ee_conv expand;
    ee_squeeze_excite gate;
    ee_quantization sum;
    block.input = in.quantization();
    if (structure.expand) {
        expand = in.conv(structure.expand_act);
        block.expand = &expand;
    }
    block.depthwise = in.spatial_conv(structure.act);
    if (structure.gate) {
        gate.pool = in.quantization();
        gate.reduce = in.conv(structure.gate_act);
        gate.expand = in.conv(Act::kNone);
        gate.output = in.quantization();
        block.squeeze_excite = &gate;
    }
    block.project = in.conv(Act::kNone);
    if (structure.residual) {
        sum = in.quantization();
        block.residual = &sum;
    }
    return made(ee_make_mbconv(&block),
                structure.expand ? expand.in_channels : block.depthwise.out_channels);
}

NodePart head(Inputs& in, const Structure& structure) {
    ee_head head = {};
    head.input = in.quantization();
    head.conv = in.conv(structure.act);
    head.features = in.quantization();
    head.classes = in.matrix(head.conv.out_channels, &head.weight);
    head.weight_scale = in.array<float>({head.classes});
    head.bias = in.array<int32_t>({head.classes});
    return made(ee_make_head(&head), head.conv.in_channels);
}

}  // namespace

NodePart part_of_node(const OrtApi& api, const OrtKernelInfo* info, const Signature& signature) {
    Inputs in(api, info, signature.inputs);
    switch (signature.structure.kind) {
        case PartKind::kPixels:
            return pixels(in);
        case PartKind::kStem:
            return stem(in, signature.structure);
        case PartKind::kMBConv:
            return mbconv(in, signature.structure);
        case PartKind::kHead:
            break;
    }
    return head(in, signature.structure);
}

}  // namespace effnet_edge
