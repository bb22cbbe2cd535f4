// Depthwise convolutions of panels of 16 channels.
//
// Two products of int8 fit 16 bits (weights are never -128): taps are taken in pairs, SMULL and
// SMLAL, and added to the int32 sums by SADDW. What makes bytes of sums is a long chain on the
// pipe that doesn't multiply, so that it is done between the taps of the next output.
#include <new>
#include <utility>

#include "neon_epilogue.h"

namespace effnet_edge {
namespace {

struct Header {
    int32_t channels;
    int32_t kernel_size;
    int32_t stride;
    Epilogue epilogue;
};

constexpr size_t kHeaderBytes = (sizeof(Header) + 63) / 64 * 64;

size_t panel_bytes(int taps) { return sizeof(Lanes) + 16 * static_cast<size_t>(taps); }

constexpr int kPanel = 16;

struct Panel {
    const Epilogue& epilogue;
    const Lanes& lanes;
    const int8_t* weights;  // [taps][kPanel]
    int size;               // of the kernel
    int stride;
};

int kernel_size(const Stage& stage) {
    int size = 1;
    while (size * size < stage.taps) ++size;
    return size;
}

EFFNET_EDGE_INLINE int8x16_t load(const uint8_t* from) {
    return vreinterpretq_s8_u8(vld1q_u8(from));
}

// Sums of the bytes of 16 channels: up to 256 of them fit 16 bits.
class ByteSums {
  public:
    explicit ByteSums(int32_t* totals) : totals_(totals) {}
    EFFNET_EDGE_INLINE void add(uint8x16_t bytes) {
        low_ = vaddw_s8(low_, vget_low_s8(vreinterpretq_s8_u8(bytes)));
        high_ = vaddw_high_s8(high_, vreinterpretq_s8_u8(bytes));
    }
    void flush() {
        const int16x8_t halves[2] = {low_, high_};
        for (int h = 0; h < 2; ++h) {
            int32_t* to = totals_ + 8 * h;
            vst1q_s32(to, vaddw_s16(vld1q_s32(to), vget_low_s16(halves[h])));
            vst1q_s32(to + 4, vaddw_high_s16(vld1q_s32(to + 4), halves[h]));
        }
        low_ = high_ = vdupq_n_s16(0);
    }

  private:
    int32_t* totals_;
    int16x8_t low_ = vdupq_n_s16(0), high_ = vdupq_n_s16(0);
};

constexpr int kMostSummed = 256;

constexpr int pairs(int kernel_size) { return (kernel_size * kernel_size + 1) / 2; }

EFFNET_EDGE_INLINE void add_products(const int16x8_t (&products)[2], int32x4_t (&sums)[4]) {
    for (int h = 0; h < 2; ++h) {
        sums[2 * h] = vaddw_s16(sums[2 * h], vget_low_s16(products[h]));
        sums[2 * h + 1] = vaddw_high_s16(sums[2 * h + 1], products[h]);
    }
}

// The sums of one output from the kernel's rows; calls `between` after each pair of taps.
template <int kSize, class Between>
EFFNET_EDGE_INLINE void convolve(const uint8_t* const (&rows)[kSize], const Panel& panel,
                                 int32x4_t (&sums)[4], const Between& between) {
    int16x8_t products[2][2];
    unroll<pairs(kSize)>([&](auto pair) EFFNET_EDGE_INLINE_LAMBDA {
        constexpr int kTap = 2 * pair, kNext = kTap + 1;
        int16x8_t(&now)[2] = products[pair % 2];
        const int8x16_t w0 = vld1q_s8(panel.weights + kPanel * kTap);
        const int8x16_t x0 = load(rows[kTap / kSize] + kTap % kSize * kPanel);
        now[0] = vmull_s8(vget_low_s8(w0), vget_low_s8(x0));
        now[1] = vmull_high_s8(w0, x0);
        if constexpr (kNext < kSize * kSize) {
            const int8x16_t w1 = vld1q_s8(panel.weights + kPanel * kNext);
            const int8x16_t x1 = load(rows[kNext / kSize] + kNext % kSize * kPanel);
            now[0] = vmlal_s8(now[0], vget_low_s8(w1), vget_low_s8(x1));
            now[1] = vmlal_high_s8(now[1], w1, x1);
        }
        // The products before these have arrived by now.
        if constexpr (pair == 0) {
            for (int q = 0; q < 4; ++q) sums[q] = vld1q_s32(panel.lanes.bias + 4 * q);
        } else {
            add_products(products[(pair + 1) % 2], sums);
        }
        between(pair);
    });
    add_products(products[(pairs(kSize) + 1) % 2], sums);
}

struct Sums {
    int32x4_t quarters[4];
};

// The ends of `row_after_row`, once for all of its forms. All is passed by value: what has an
// address wouldn't stay in registers.
template <int kSize>
__attribute__((noinline)) Sums convolve_first(const uint8_t* const* in, size_t offset,
                                              Panel panel) {
    const uint8_t* rows[kSize];
    for (int i = 0; i < kSize; ++i) rows[i] = in[i] + offset;
    Sums sums;
    convolve<kSize>(rows, panel, sums.quarters, [](auto) {});
    return sums;
}

template <Form kForm>
__attribute__((noinline)) uint8x16_t finish_last(Sums last, Panel panel) {
    const int32x4_t(&sums)[4] = last.quarters;
    const Narrowed<kAnyShift> narrowed[1] = {{sums, panel.epilogue}};
    Finish<kAnyShift, kForm, 1> finish(narrowed, panel.lanes, panel.epilogue);
    finish.all_steps();
    return finish.bytes(0);
}

// Columns `first` to `last - 1`, at most kMostSummed, of kernels of 3 x 3 or 5 x 5, pixels next to
// each other in memory: one row of outputs after the other without a break.
template <int kSize, int kShift, Form kForm>
void row_after_row(Panel panel, const DepthwiseRun& run, int first, int last, int32_t* totals) {
    const size_t step = static_cast<size_t>(panel.stride) * kPanel, out_stride = run.out_stride;
    const uint8_t* rows[kSize];
    int r = 0, left;
    uint8_t* out;
    const auto start_row = [&]() EFFNET_EDGE_INLINE_LAMBDA {
        for (int i = 0; i < kSize; ++i) rows[i] = run.in[r * panel.stride + i] + first * step;
        out = run.out + r * run.out_row_stride + first * out_stride;
        left = last - first;
    };
    start_row();
    const Sums first_sums = convolve_first<kSize>(run.in, first * step, panel);
    int32x4_t sums[4];
    for (int q = 0; q < 4; ++q) sums[q] = first_sums.quarters[q];
    ByteSums byte_sums(totals);
    for (;;) {
        uint8_t* const to = out;
        for (int i = 0; i < kSize; ++i) rows[i] += step;
        out += out_stride;
        if (--left == 0) {
            byte_sums.flush();
            if (++r == run.rows) {
                const Sums last_sums = {{sums[0], sums[1], sums[2], sums[3]}};
                const uint8x16_t bytes = finish_last<kForm>(last_sums, panel);
                vst1q_u8(to, bytes);
                byte_sums.add(bytes);
                byte_sums.flush();
                return;
            }
            start_row();
        }
        const Narrowed<kShift> narrowed[1] = {{sums, panel.epilogue}};
        Finish<kShift, kForm, 1> finish(narrowed, panel.lanes, panel.epilogue);
        convolve<kSize>(rows, panel, sums, [&](auto pair) EFFNET_EDGE_INLINE_LAMBDA {
            unroll<finish.kSteps>([&](auto i) EFFNET_EDGE_INLINE_LAMBDA {
                if constexpr (i * pairs(kSize) / finish.kSteps == pair) finish.template step<i>();
            });
        });
        vst1q_u8(to, finish.bytes(0));
        byte_sums.add(finish.bytes(0));
    }
}

template <int kSize, int kShift, Form kForm>
void depthwise(Panel panel, const DepthwiseRun& run, int32_t* totals) {
    for (int first = 0; first < run.width; first += kMostSummed) {
        const int last = run.width - first < kMostSummed ? run.width : first + kMostSummed;
        row_after_row<kSize, kShift, kForm>(panel, run, first, last, totals);
    }
}

// The same for sizes that EfficientNets don't have, and for other strides.
template <Form kForm>
void any_depthwise(Panel panel, const DepthwiseRun& run, int32_t* totals) {
    ByteSums byte_sums(totals);
    for (int r = 0; r < run.rows; ++r) {
        const uint8_t* const* in = run.in + r * panel.stride;
        for (int x = 0; x < run.width; ++x) {
            int32x4_t sums[4];
            for (int q = 0; q < 4; ++q) sums[q] = vld1q_s32(panel.lanes.bias + 4 * q);
            const int8_t* weights = panel.weights;
            for (int i = 0; i < panel.size; ++i) {
                for (int j = 0; j < panel.size; ++j, weights += kPanel) {
                    const int8x16_t w = vld1q_s8(weights);
                    const int8x16_t a = load(in[i] + (x * panel.stride + j) * run.in_stride);
                    const int16x8_t low = vmull_s8(vget_low_s8(w), vget_low_s8(a));
                    const int16x8_t high = vmull_high_s8(w, a);
                    sums[0] = vaddw_s16(sums[0], vget_low_s16(low));
                    sums[1] = vaddw_high_s16(sums[1], low);
                    sums[2] = vaddw_s16(sums[2], vget_low_s16(high));
                    sums[3] = vaddw_high_s16(sums[3], high);
                }
            }
            const Narrowed<kAnyShift> narrowed[1] = {{sums, panel.epilogue}};
            Finish<kAnyShift, kForm, 1> finish(narrowed, panel.lanes, panel.epilogue);
            finish.all_steps();
            vst1q_u8(run.out + r * run.out_row_stride + x * run.out_stride, finish.bytes(0));
            byte_sums.add(finish.bytes(0));
            byte_sums.flush();
        }
    }
}

using Kernel = void (*)(Panel panel, const DepthwiseRun& run, int32_t* totals);

template <int kSize, int... kShift>
Kernel choose(const Epilogue& epilogue, std::integer_sequence<int, kShift...>) {
    static constexpr Kernel kKernels[kForms][Shifts::size()] = {
        {depthwise<kSize, kShift, Form::kByte>...},
        {depthwise<kSize, kShift, Form::kLookup>...},
        {depthwise<kSize, kShift, Form::kAnyLookup>...},
        {depthwise<kSize, kShift, Form::kProduct>...}};
    return kKernels[static_cast<int>(epilogue.form)][shift_index(epilogue)];
}

Kernel choose(int kernel_size, const Epilogue& epilogue, size_t in_stride) {
    if (in_stride == kPanel && kernel_size == 3) return choose<3>(epilogue, Shifts());
    if (in_stride == kPanel && kernel_size == 5) return choose<5>(epilogue, Shifts());
    static constexpr Kernel kAny[kForms] = {
        any_depthwise<Form::kByte>, any_depthwise<Form::kLookup>, any_depthwise<Form::kAnyLookup>,
        any_depthwise<Form::kProduct>};
    return kAny[static_cast<int>(epilogue.form)];
}

}  // namespace

size_t neon_depthwise_bytes(const Stage& stage) {
    return kHeaderBytes + (stage.channels + 15) / 16 * panel_bytes(stage.taps);
}

void neon_depthwise_pack(const Stage& stage, void* packed) {
    new (packed) Header{stage.channels, kernel_size(stage), stage.stride, Epilogue(stage)};
    auto* at = static_cast<uint8_t*>(packed) + kHeaderBytes;
    for (int first = 0; first < stage.channels; first += kPanel, at += panel_bytes(stage.taps)) {
        auto* weights = reinterpret_cast<int8_t*>(new (at) Lanes(stage, first, kPanel) + 1);
        for (int tap = 0; tap < stage.taps; ++tap) {
            for (int c = first; c < first + kPanel; ++c) {
                *weights++ = c < stage.channels ? stage.weight[c * stage.taps + tap] : 0;
            }
        }
    }
}

void neon_depthwise(const void* packed, const DepthwiseRun& run) {
    const auto& header = *static_cast<const Header*>(packed);
    const auto* at = static_cast<const uint8_t*>(packed) + kHeaderBytes +
                     run.panel * panel_bytes(header.kernel_size * header.kernel_size);
    const auto& lanes = *reinterpret_cast<const Lanes*>(at);
    const Panel panel = {header.epilogue, lanes, reinterpret_cast<const int8_t*>(&lanes + 1),
                         header.kernel_size, header.stride};
    int32_t totals[kPanel] = {};
    choose(header.kernel_size, header.epilogue, run.in_stride)(panel, run, totals);
    if (run.sums == nullptr) return;
    const int left = header.channels - kPanel * run.panel;
    for (int c = 0; c < kPanel && c < left; ++c) run.sums[c] += totals[c];
}

}  // namespace effnet_edge
