#include "operators.h"

#include <cstdint>
#include <stdexcept>
#include <utility>
#include <vector>

#include "arguments.h"
#include "effnet_edge_kernels.h"
#include "ort.h"
#include "scratch_pool.h"
#include "shape_inference.h"

namespace effnet_edge {
namespace {

// Lends the threads of a session to one part after the other.
class SessionThreads {
  public:
    SessionThreads(const OrtApi& api, const OrtKernelContext* context, int threads)
        : api_(api), context_(context), scheduler_{&run, this, threads} {}

    const ee_scheduler* scheduler() const { return &scheduler_; }
    // Throws what went wrong, which a scheduler can't.
    void check_status() { check(api_, std::exchange(status_, nullptr)); }

  private:
    static void run(void* self, void (*task)(void*, size_t), size_t count, void* argument) {
        auto* threads = static_cast<SessionThreads*>(self);
        OrtStatus* status =
            threads->api_.KernelContext_ParallelFor(threads->context_, task, count, 0, argument);
        if (status == nullptr) return;
        if (threads->status_ != nullptr) threads->api_.ReleaseStatus(threads->status_);
        threads->status_ = status;
    }

    const OrtApi& api_;
    const OrtKernelContext* context_;
    OrtStatus* status_ = nullptr;
    const ee_scheduler scheduler_;
};

class Kernel {
  public:
    Kernel(const Operator& op, const OrtKernelInfo* info)
        : op_(op), node_(part_of_node(op.api(), info, op.signature())) {}

    const OrtApi& api() const { return op_.api(); }

    void compute(OrtKernelContext* context) const {
        const OrtValue* input = nullptr;
        check(api(), api().KernelContext_GetInput(context, 0, &input));
        const std::vector<int64_t> map = Shape(api(), input).dimensions();
        if (map.size() != 4 || map[3] != node_.in_channels || map[1] > INT32_MAX ||
            map[2] > INT32_MAX) {
            throw std::runtime_error("the map has an unexpected shape");
        }
        const auto height = static_cast<int32_t>(map[1]);
        const auto width = static_cast<int32_t>(map[2]);
        int32_t size[3];
        if (ee_part_output(node_.part.get(), height, width, size) != 0) {
            throw std::runtime_error(ee_error());
        }
        std::vector<int64_t> shape = {map[0], size[0], size[1], size[2]};
        const bool is_head = op_.signature().structure.kind == PartKind::kHead;
        if (is_head) shape = {map[0], size[2]};

        OrtValue* output = nullptr;
        check(api(),
              api().KernelContext_GetOutput(context, 0, shape.data(), shape.size(), &output));
        const auto* in = static_cast<const uint8_t*>(data(const_cast<OrtValue*>(input)));
        auto* out = static_cast<uint8_t*>(data(output));
        const size_t in_bytes = static_cast<size_t>(map[1]) * map[2] * map[3];
        const size_t out_bytes = static_cast<size_t>(size[0]) * size[1] * size[2] *
                                 (is_head ? sizeof(float) : sizeof(uint8_t));

        const size_t bytes = ee_part_scratch(node_.part.get(), height, width, op_.threads());
        const ScratchPool::Lease scratch(bytes);
        SessionThreads threads(api(), context, op_.threads());
        for (int64_t image = 0; image < map[0]; ++image) {
            if (ee_run_part(node_.part.get(), in + image * in_bytes, height, width,
                            out + image * out_bytes, scratch.data(), threads.scheduler()) != 0) {
                throw std::runtime_error(ee_error());
            }
            threads.check_status();
        }
    }

  private:
    void* data(OrtValue* value) const {
        void* data = nullptr;
        check(api(), api().GetTensorMutableData(value, &data));
        return data;
    }

    const Operator& op_;
    const NodePart node_;
    const ScratchPool::User pool_user_;
};

const Operator& of(const OrtCustomOp* op) { return *static_cast<const Operator*>(op); }

}  // namespace

Operator::Operator(const OrtApi& api, const Signature& signature, int threads)
    : OrtCustomOp{}, api_(api), signature_(signature), threads_(threads) {
    version = kOrtApiVersion;
    GetName = [](const OrtCustomOp* op) { return of(op).signature().name.c_str(); };
    GetExecutionProviderType = [](const OrtCustomOp*) -> const char* { return nullptr; };  // CPU
    // Of what follows the map one schema for all is enough: `part_of_node` looks closely. To
    // declare each input takes 0.1 ms an operator, on a processor that runs B0 in 5 ms.
    GetInputTypeCount = [](const OrtCustomOp*) -> size_t { return 2; };
    GetInputType = [](const OrtCustomOp*, size_t index) {
        return index == 0 ? ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8
                          : ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
    };
    GetInputCharacteristic = [](const OrtCustomOp*, size_t index) {
        return index == 0 ? INPUT_OUTPUT_REQUIRED : INPUT_OUTPUT_VARIADIC;
    };
    GetVariadicInputMinArity = [](const OrtCustomOp* op) {
        return static_cast<int>(of(op).signature().inputs) - 1;
    };
    GetVariadicInputHomogeneity = [](const OrtCustomOp*) { return 0; };
    GetOutputTypeCount = [](const OrtCustomOp*) -> size_t { return 1; };
    GetOutputType = [](const OrtCustomOp* op, size_t) { return of(op).signature().output; };
    GetOutputCharacteristic = [](const OrtCustomOp*, size_t) { return INPUT_OUTPUT_REQUIRED; };
    GetInputMemoryType = [](const OrtCustomOp*, size_t) { return OrtMemTypeDefault; };
    GetStartVersion = [](const OrtCustomOp*) { return 1; };
    GetEndVersion = [](const OrtCustomOp*) { return 1; };
    InferOutputShapeFn = [](const OrtCustomOp* op, OrtShapeInferContext* context) {
        return status_of(of(op).api(),
                         [&] { infer_output_shape(of(op).api(), of(op).signature(), context); });
    };
    CreateKernelV2 = [](const OrtCustomOp* op, const OrtApi* api, const OrtKernelInfo* info,
                        void** kernel) {
        return status_of(*api, [&] { *kernel = new Kernel(of(op), info); });
    };
    KernelComputeV2 = [](void* kernel, OrtKernelContext* context) {
        const auto* self = static_cast<const Kernel*>(kernel);
        return status_of(self->api(), [&] { self->compute(context); });
    };
    KernelDestroy = [](void* kernel) { delete static_cast<Kernel*>(kernel); };
}

}  // namespace effnet_edge
