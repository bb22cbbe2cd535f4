// 1x1 convolutions.
//
// A tile is 4 pixels x 16 channels: its 16 sums of 4 lanes stay in registers over the whole depth,
// with 8 weights and 4 inputs beside them. Panels of 16 channels are the outer loop, as one's
// weights stay in the first-level cache.
#include "neon_kernels.h"

#include <new>
#include <utility>

#include "neon_epilogue.h"
#include "neon_multiply.h"

namespace effnet_edge {
namespace {

#if defined(__aarch64__)
constexpr int kTilePixels = 4;
#else
constexpr int kTilePixels = 2;  // 16 registers
#endif

struct Header {
    int32_t channels;
    int32_t depth;
    Epilogue epilogue;
};

constexpr size_t kHeaderBytes = (sizeof(Header) + 63) / 64 * 64;

// Constants, then the weights of 16 channels, or of 8 if the last panel has no more.
size_t panel_bytes(int depth) { return sizeof(Lanes) + 16 * static_cast<size_t>(depth); }

// Where the pixels of the result go, row by row.
class Places {
  public:
    Places(const PointwiseRun& run, uint8_t* first)
        : stride_(run.out_stride),
          row_stride_(run.out_row_stride),
          width_(run.width),
          row_(first),
          at_(first),
          left_(run.width) {}

    template <int kPixels>
    EFFNET_EDGE_INLINE void next(uint8_t* (&places)[kPixels]) {
        if (left_ > kPixels) {
            for (int p = 0; p < kPixels; ++p) places[p] = at_ + p * stride_;
            at_ += kPixels * stride_;
            left_ -= kPixels;
            return;
        }
        for (int p = 0; p < kPixels; ++p) {
            places[p] = at_;
            at_ += stride_;
            if (--left_ == 0) {
                left_ = width_;
                at_ = row_ += row_stride_;
            }
        }
    }

  private:
    size_t stride_, row_stride_;
    int width_;
    uint8_t* row_;
    uint8_t* at_;
    int left_;  // pixels of this row
};

struct Panel {
    const Epilogue& epilogue;
    const Lanes& lanes;
    const int8_t* weights;
    int depth;
    int count;  // channels
};

// 8 * kGroups channels of kPixels pixels.
template <int kShift, Form kForm, int kPixels, int kGroups>
EFFNET_EDGE_INLINE void tile(const Panel& panel, const uint8_t* first, size_t in_stride,
                             uint8_t* const (&out)[kPixels]) {
    const uint8_t* in[kPixels];
    int32x4_t sums[kPixels][2 * kGroups];
    for (int p = 0; p < kPixels; ++p) {
        in[p] = first + p * in_stride;
        for (int q = 0; q < 2 * kGroups; ++q) sums[p][q] = vld1q_s32(panel.lanes.bias + 4 * q);
    }
    accumulate<kPixels, kGroups>(in, panel.weights, panel.depth, sums);
    if constexpr (kGroups == 2) {
        Narrowed<kShift> narrowed[kPixels];
        for (int p = 0; p < kPixels; ++p) narrowed[p] = {sums[p], panel.epilogue};
        Finish<kShift, kForm, kPixels> finish(narrowed, panel.lanes, panel.epilogue);
        finish.all_steps();
        for (int p = 0; p < kPixels; ++p) vst1q_u8(out[p], finish.bytes(p));
    } else {
        constexpr int kVectors = (kPixels + 1) / 2;
        Narrowed<kShift> narrowed[kVectors];
        for (int v = 0; v < kVectors; ++v) {
            const int32x4_t(&next)[2] = sums[2 * v + 1 < kPixels ? 2 * v + 1 : 2 * v];
            narrowed[v] = {{sums[2 * v][0], sums[2 * v][1], next[0], next[1]}, panel.epilogue};
        }
        Finish<kShift, kForm, kVectors> finish(narrowed, panel.lanes, panel.epilogue);
        finish.all_steps();
        for (int p = 0; p < kPixels; ++p) {
            const uint8x16_t both = finish.bytes(p / 2);
            vst1_u8(out[p], p % 2 == 0 ? vget_low_u8(both) : vget_high_u8(both));
        }
    }
}

template <int kShift, Form kForm, int kPixels, int kGroups>
EFFNET_EDGE_INLINE void tiles(const Panel& panel, const uint8_t*& in, size_t in_stride, int& left,
                              Places& places) {
    const bool whole = panel.count == 8 * kGroups;
    for (; left >= kPixels; left -= kPixels, in += kPixels * in_stride) {
        uint8_t* out[kPixels];
        places.next(out);
        uint8_t bytes[kPixels][8 * kGroups];
        uint8_t* to[kPixels];
        for (int p = 0; p < kPixels; ++p) to[p] = whole ? out[p] : bytes[p];
        tile<kShift, kForm, kPixels, kGroups>(panel, in, in_stride, to);
        if (whole) continue;
        for (int p = 0; p < kPixels; ++p) std::memcpy(out[p], bytes[p], panel.count);
    }
}

template <int kShift, Form kForm, int kGroups>
void all_pixels(Panel panel, const PointwiseRun& run, uint8_t* out) {
    Places places(run, out);
    const uint8_t* in = run.in;
    int left = run.rows * run.width;
    tiles<kShift, kForm, kTilePixels, kGroups>(panel, in, run.in_stride, left, places);
    tiles<kShift, kForm, 1, kGroups>(panel, in, run.in_stride, left, places);
}

using PanelKernel = void (*)(Panel panel, const PointwiseRun& run, uint8_t* out);

struct PanelKernels {
    PanelKernel of_16;  // channels
    PanelKernel of_8;
};

template <int... kShift>
PanelKernels choose(const Epilogue& epilogue, std::integer_sequence<int, kShift...>) {
    // Results of a lookup stay inside a block, where channels are multiples of 16.
    static constexpr PanelKernels kKernels[kForms][Shifts::size()] = {
        {{all_pixels<kShift, Form::kByte, 2>, all_pixels<kShift, Form::kByte, 1>}...},
        {{all_pixels<kShift, Form::kLookup, 2>, all_pixels<kAnyShift, Form::kLookup, 1>}...},
        {{all_pixels<kShift, Form::kAnyLookup, 2>, all_pixels<kAnyShift, Form::kAnyLookup, 1>}...},
        {{all_pixels<kShift, Form::kProduct, 2>, all_pixels<kAnyShift, Form::kProduct, 1>}...}};
    return kKernels[static_cast<int>(epilogue.form)][shift_index(epilogue)];
}

}  // namespace

size_t neon_pointwise_bytes(const Stage& stage) {
    return kHeaderBytes + (stage.channels + 15) / 16 * panel_bytes(stage.depth);
}

void neon_pointwise_pack(const Stage& stage, void* packed) {
    new (packed) Header{stage.channels, stage.depth, Epilogue(stage)};
    auto* at = static_cast<uint8_t*>(packed) + kHeaderBytes;
    for (int first = 0; first < stage.channels; first += 16, at += panel_bytes(stage.depth)) {
        const int groups = stage.channels - first > 8 ? 2 : 1;
        Lanes* lanes = new (at) Lanes(stage, first, 8 * groups);
        const auto weight = [&](int channel, int k) -> int8_t {
            if (first + channel >= stage.channels) return 0;
            return stage.weight[static_cast<size_t>(first + channel) * stage.depth + k];
        };
        pack_weights(groups, stage.depth, reinterpret_cast<int8_t*>(lanes + 1), weight);
    }
}

void neon_pointwise(const void* packed, const PointwiseRun& run) {
    const auto& header = *static_cast<const Header*>(packed);
    const PanelKernels kernels = choose(header.epilogue, Shifts());
    const size_t bytes = panel_bytes(header.depth);
    const auto* at = static_cast<const uint8_t*>(packed) + kHeaderBytes + run.panel_begin * bytes;
    uint8_t* out = run.out;
    for (int p = run.panel_begin; p < run.panel_end; ++p, at += bytes, out += 16) {
        const auto& lanes = *reinterpret_cast<const Lanes*>(at);
        const int left = header.channels - 16 * p;
        const Panel panel = {header.epilogue, lanes, reinterpret_cast<const int8_t*>(&lanes + 1),
                             header.depth, left < 16 ? left : 16};
        (left > 8 ? kernels.of_16 : kernels.of_8)(panel, run, out);
    }
}

}  // namespace effnet_edge
