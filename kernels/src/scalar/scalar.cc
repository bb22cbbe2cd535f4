#include "scalar.h"

#include <algorithm>
#include <new>

#include "../arithmetic.h"

namespace effnet_edge {
namespace {

constexpr int kPanel = 32;

// "Packing" keeps a pointer to the stage, which the owner of the packed weights keeps alive.
template <class What>
size_t pointer_bytes(const What&) {
    return sizeof(const What*);
}

template <class What>
void keep_pointer(const What& what, void* packed) {
    *static_cast<const What**>(packed) = &what;
}

template <class What>
const What& kept(const void* packed) {
    return **static_cast<const What* const*>(packed);
}

void pointwise(const void* packed, const PointwiseRun& run) {
    const Stage& stage = kept<Stage>(packed);
    const int begin = run.panel_begin * kPanel;
    const int end = std::min(run.panel_end * kPanel, stage.channels);
    const uint8_t* in = run.in;
    for (int r = 0; r < run.rows; ++r) {
        for (int x = 0; x < run.width; ++x, in += run.in_stride) {
            uint8_t* out = run.out + r * run.out_row_stride + x * run.out_stride;
            for (int c = begin; c < end; ++c) {
                const int8_t* weight = &stage.weight[static_cast<size_t>(c) * stage.depth];
                int32_t sum = 0;
                for (int k = 0; k < stage.depth; ++k) {
                    sum += weight[k] * stored(in[k], stage.signed_maps);
                }
                out[c - begin] = finish(stage, c, sum);
            }
        }
    }
}

void depthwise(const void* packed, const DepthwiseRun& run) {
    const Stage& stage = kept<Stage>(packed);
    int kernel = 1;
    while (kernel * kernel < stage.taps) ++kernel;
    const int begin = run.panel * kPanel;
    const int end = std::min(begin + kPanel, stage.channels);
    for (int r = 0; r < run.rows; ++r) {
        for (int x = 0; x < run.width; ++x) {
            uint8_t* out = run.out + r * run.out_row_stride + x * run.out_stride;
            for (int c = begin; c < end; ++c) {
                const int8_t* weight = &stage.weight[static_cast<size_t>(c) * stage.taps];
                int32_t sum = 0;
                for (int i = 0; i < kernel; ++i) {
                    const uint8_t* row =
                        run.in[r * stage.stride + i] + x * stage.stride * run.in_stride + c - begin;
                    for (int j = 0; j < kernel; ++j) {
                        sum += weight[i * kernel + j] *
                               stored(row[j * run.in_stride], stage.signed_maps);
                    }
                }
                out[c - begin] = finish(stage, c, sum);
                if (run.sums != nullptr) {
                    run.sums[c - begin] += stored(out[c - begin], stage.signed_maps);
                }
            }
        }
    }
}

template <bool kSigned>
void classify(const void* packed, const uint8_t* features, int first, int last, float* logits) {
    const Classifier& classifier = kept<Classifier>(packed);
    for (int c = first; c < last; ++c) {
        const int8_t* weight = &classifier.weight[static_cast<size_t>(c) * classifier.depth];
        int32_t sum = classifier.bias[c];
        for (int k = 0; k < classifier.depth; ++k) sum += weight[k] * stored(features[k], kSigned);
        logits[c] = static_cast<float>(sum) * classifier.scale[c];
    }
}

template <bool kSigned>
void gate(const GateRun& run) {
    const size_t bytes = run.pixels * run.channels;
    for (size_t i = 0; i < bytes; ++i) {
        const size_t c = i % run.channels;
        const int32_t product =
            multiply_high16(stored(run.in[i], kSigned) * 128, run.multiplier[c]);
        run.out[i] = store(saturate16(product + run.offset[c]) >> run.shift, kSigned);
    }
}

template <bool kSigned>
void add(const AddRun& run) {
    for (size_t i = 0; i < run.bytes; ++i) {
        const int32_t a = multiply_high16(stored(run.inout[i], kSigned) * 128, run.multiplier);
        const int32_t b =
            multiply_high16(stored(run.shortcut[i], kSigned) * 128, run.shortcut_multiplier);
        run.inout[i] = store(saturate16(saturate16(a + b) + run.offset) >> run.shift, kSigned);
    }
}

template <bool kSigned>
void sum(const SumRun& run) {
    for (size_t p = 0; p < run.pixels; ++p) {
        for (int c = 0; c < run.channels; ++c) {
            run.sums[c] += stored(run.in[p * run.in_stride + c], kSigned);
        }
    }
}

template <bool kSigned>
constexpr Kernels table(const char* name) {
    return {name,
            kSigned,
            kSigned,
            true,
            kPanel,
            pointer_bytes<Stage>,
            keep_pointer<Stage>,
            pointwise,
            pointer_bytes<Stage>,
            keep_pointer<Stage>,
            depthwise,
            pointer_bytes<Classifier>,
            keep_pointer<Classifier>,
            classify<kSigned>,
            gate<kSigned>,
            add<kSigned>,
            sum<kSigned>};
}

}  // namespace

const Kernels kScalar = table<false>("scalar");
const Kernels kScalarFixed = table<true>("scalar-fixed");

}  // namespace effnet_edge
