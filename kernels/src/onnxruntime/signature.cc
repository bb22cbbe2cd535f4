#include "signature.h"

namespace effnet_edge {
namespace {

constexpr Act kActs[] = {Act::kNone, Act::kSilu, Act::kScaledSilu};

const char* spelled(Act act) {
    return act == Act::kNone ? "" : act == Act::kSilu ? "Silu" : "ScaledSilu";
}

std::string name_of(const Structure& part) {
    switch (part.kind) {
        case PartKind::kPixels:
            return "Pixels";
        case PartKind::kStem:
            return std::string("Stem") + spelled(part.act);
        case PartKind::kHead:
            return std::string("Head") + spelled(part.act);
        case PartKind::kMBConv:
            break;
    }
    std::string name = "MBConv";
    if (part.expand) name += std::string("Expand") + spelled(part.expand_act);
    name += std::string("Depthwise") + spelled(part.act);
    if (part.gate) name += std::string("Gate") + spelled(part.gate_act);
    if (part.residual) name += "Residual";
    return name;
}

// The grammar's symbols, each counting the inputs that it stands for. The same order, with types
// and values, is in arguments.cc.
class Inputs {
  public:
    explicit Inputs(size_t& count) : count_(count) {}

    void add_quantization() { count_ += 2; }
    // Returns where the weight is.
    size_t add_parameters() {
        count_ += 3;
        return count_ - 3;
    }
    size_t add_conv(Act act) {
        const size_t weight = add_parameters();
        add_quantization();
        if (act == Act::kScaledSilu) {
            ++count_;
            add_quantization();
            add_quantization();
        }
        if (act != Act::kNone) add_quantization();
        return weight;
    }

  private:
    size_t& count_;
};

}  // namespace

Signature::Signature(const Structure& part)
    : structure(part),
      name(name_of(part)),
      output(part.kind == PartKind::kHead ? ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT
                                          : ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8) {
    Inputs list(inputs);
    list.add_quantization();
    if (part.kind == PartKind::kPixels) {
        ++inputs;  // the offset
        return;
    }
    if (part.kind == PartKind::kMBConv && part.expand) list.add_conv(part.expand_act);
    spatial_weight = last_weight = list.add_conv(part.act);
    if (part.kind == PartKind::kHead) {
        list.add_quantization();
        last_weight = list.add_parameters();
    }
    if (part.kind != PartKind::kMBConv) return;
    if (part.gate) {
        list.add_quantization();
        list.add_conv(part.gate_act);
        list.add_conv(Act::kNone);
        list.add_quantization();
    }
    last_weight = list.add_conv(Act::kNone);
    if (part.residual) list.add_quantization();
}

std::vector<Signature> all_signatures() {
    std::vector<Signature> all;
    const auto add = [&all](const Structure& part) { all.emplace_back(part); };
    add({PartKind::kPixels});
    for (const Act act : kActs) {
        add({PartKind::kStem, act});
        add({PartKind::kHead, act});
        for (const bool residual : {false, true}) {
            std::vector<Structure> blocks = {{PartKind::kMBConv, act}};
            for (const Act expand : kActs) {
                blocks.push_back({PartKind::kMBConv, act, true, expand});
            }
            for (Structure block : blocks) {
                block.residual = residual;
                add(block);
                block.gate = true;
                for (const Act gate : kActs) {
                    block.gate_act = gate;
                    add(block);
                }
            }
        }
    }
    return all;
}

}  // namespace effnet_edge
