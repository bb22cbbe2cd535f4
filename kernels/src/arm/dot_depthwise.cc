// Depthwise convolutions, a strip of two rows of 8 channels at a time: columns pass by while the
// groups and pairs (dot_depthwise.h) of those that later outputs need stay in registers. No
// register is left for an epilogue: the sums of a strip go through memory, a few kilobytes of the
// first cache.
#pragma GCC optimize("no-schedule-insns")  // as in dot_pointwise.cc

#include "dot_depthwise.h"

#include <new>
#include <type_traits>

#include "dot_kernels.h"

namespace effnet_edge {
namespace {

// Behind it for each 8 channels: constants, weights as dot_depthwise.h orders them, and for kernels
// that it doesn't know weights as [taps][8].
struct alignas(64) Packed {
    int channels, kernel, stride;
    DotEpilogue epilogue;

    explicit Packed(const Stage& stage)
        : channels(stage.channels), kernel(1), stride(stage.stride), epilogue(stage) {
        while (kernel * kernel < stage.taps) ++kernel;
    }

    bool is_known() const { return (kernel == 3 || kernel == 5) && (stride == 1 || stride == 2); }
    size_t weight_bytes() const {
        return is_known() ? weight_vectors(kernel) * 16 : static_cast<size_t>(kernel) * kernel * 8;
    }
    size_t group_bytes() const { return (sizeof(DotConstants) + weight_bytes() + 15) / 16 * 16; }
    int groups() const { return (channels + 7) / 8; }
    uint8_t* group(int index) {
        return reinterpret_cast<uint8_t*>(this + 1) + index * group_bytes();
    }
    const uint8_t* group(int index) const { return const_cast<Packed*>(this)->group(index); }
};

constexpr int kStripColumns = 64;

// The sums of some columns of one or two output rows: [column][row][8].
struct Strip {
    const uint8_t* in[7];  // the input rows at the first column
    size_t in_stride;
    int width;
    const int32_t* bias;
    const int8_t* weights;
    int32_t* sums;
};

// The columns that are in registers while a strip is computed. One iteration gives kPhases *
// kTogether outputs: so many that what it leaves for the next is in the same registers again.
template <int kKernel, int kStride, int kRows>
class Columns {
    using Layout = DepthwiseLayout<kKernel, kStride, kRows>;
    static constexpr int kCarried = kKernel - kStride;
    static constexpr int kCarriedPairs = Layout::kPairs ? (kStride == 1 ? 4 : 2) : 0;

  public:
    static constexpr int kTogether = kStride == 1 ? 2 : 1;
    static constexpr int kPhases = 2;  // for 3 x 3 as well: there are fewer copies

    EFFNET_EDGE_INLINE explicit Columns(const Strip& strip) : stride_(strip.in_stride) {
        unrolled<Layout::kInputRows>(
            [&](auto row) EFFNET_EDGE_INLINED { in_[row.value] = strip.in[row.value]; });
        unrolled<kCarried>([&](auto c) EFFNET_EDGE_INLINED { take_group(groups_[c.value]); });
        if constexpr (Layout::kPairs) {
            if (kStride == 1) half_ = take_half();
            unrolled<kCarriedPairs>([&](auto p)
                                        EFFNET_EDGE_INLINED { take_pair(pairs_[p.value]); });
        }
    }

    // Adds the products of kCount outputs, the first of which is the iteration's output kFirst.
    // sums: [output][row][2]. weight(i): vector i of dot_depthwise.h's order.
    template <int kFirst, int kCount, class Weight>
    EFFNET_EDGE_INLINE void multiply(const Weight& weight, int32x4_t (&sums)[kCount * kRows * 2]) {
        unrolled<kKernel>([&](auto index) EFFNET_EDGE_INLINED {
            constexpr int x = decltype(index)::value;
            constexpr int last = (kFirst + kCount - 1) * kStride + x;
            if constexpr (last >= kCarried + kFirst * kStride) take_group(groups_[last]);
            unrolled<kRows * 2>([&](auto part) EFFNET_EDGE_INLINED {
                constexpr int i = decltype(part)::value;
                const int8x16_t w = weight(Index<x * 4 + (kStride == 1 ? i : i % 2)>{});
                unrolled<kCount>([&](auto output) EFFNET_EDGE_INLINED {
                    constexpr int o = decltype(output)::value;
                    const auto& group = groups_[(kFirst + o) * kStride + x];
                    int32x4_t& sum = sums[o * kRows * 2 + i];
                    sum = vdotq_s32(sum, group[kStride == 1 ? 0 : i / 2][i % 2], w);
                });
            });
        });
        if constexpr (Layout::kPairs) {
            multiply_pairs<kFirst, kCount>(weight, sums);
        }
    }

    // After an iteration.
    EFFNET_EDGE_INLINE void carry() {
        constexpr int kOutputs = kPhases * kTogether;
        unrolled<kCarried>([&](auto c) EFFNET_EDGE_INLINED {
            unrolled<2 * Layout::kGroups>([&](auto i) EFFNET_EDGE_INLINED {
                groups_[c.value][i.value / 2][i.value % 2] =
                    groups_[c.value + kOutputs * kStride][i.value / 2][i.value % 2];
            });
        });
        unrolled<kCarriedPairs>([&](auto p) EFFNET_EDGE_INLINED {
            pairs_[p.value][0] = pairs_[p.value + kOutputs][0];
            pairs_[p.value][1] = pairs_[p.value + kOutputs][1];
        });
    }

  private:
    template <int kFirst, int kCount, class Weight>
    EFFNET_EDGE_INLINE void multiply_pairs(const Weight& weight,
                                           int32x4_t (&sums)[kCount * kRows * 2]) {
        unrolled<3>([&](auto index) EFFNET_EDGE_INLINED {
            constexpr int x = decltype(index)::value;
            if constexpr (x == 2) {
                unrolled<kCount>([&](auto output) EFFNET_EDGE_INLINED {
                    take_pair(pairs_[kFirst + output.value + kCarriedPairs]);
                });
            }
            unrolled<kRows * 2>([&](auto part) EFFNET_EDGE_INLINED {
                constexpr int i = decltype(part)::value;
                const int8x16_t w = weight(Index<kKernel * 4 + x * 4 + i>{});
                unrolled<kCount>([&](auto output) EFFNET_EDGE_INLINED {
                    constexpr int o = decltype(output)::value;
                    constexpr int pair = kFirst + o + x * (kStride == 1 ? 2 : 1);
                    int32x4_t& sum = sums[o * kRows * 2 + i];
                    sum = vdotq_s32(sum, pairs_[pair][i % 2], w);
                });
            });
        });
    }

    EFFNET_EDGE_INLINE int8x16_t two_rows(int first, int second, size_t at) const {
        return vzip1q_s8(eight(in_[first] + at), eight(in_[second] + at));
    }

    // In the lower half of a register.
    static EFFNET_EDGE_INLINE int8x16_t eight(const uint8_t* from) {
        return vcombine_s8(vld1_s8(reinterpret_cast<const int8_t*>(from)), vdup_n_s8(0));
    }

    static EFFNET_EDGE_INLINE void interleave(int8x16_t a, int8x16_t b, int8x16_t (&to)[2]) {
        const int16x8_t wide_a = vreinterpretq_s16_s8(a), wide_b = vreinterpretq_s16_s8(b);
        to[0] = vreinterpretq_s8_s16(vzip1q_s16(wide_a, wide_b));
        to[1] = vreinterpretq_s8_s16(vzip2q_s16(wide_a, wide_b));
    }

    EFFNET_EDGE_INLINE void take_group(int8x16_t (&group)[Layout::kGroups][2]) {
        unrolled<Layout::kGroups>([&](auto index) EFFNET_EDGE_INLINED {
            constexpr int g = decltype(index)::value;
            interleave(two_rows(Layout::group_row(g, 0), Layout::group_row(g, 1), at_),
                       two_rows(Layout::group_row(g, 2), Layout::group_row(g, 3), at_), group[g]);
        });
        at_ += stride_;
    }

    EFFNET_EDGE_INLINE int8x16_t take_half() {
        const int8x16_t half = two_rows(Layout::pair_row(0), Layout::pair_row(1), at_of_pairs_);
        at_of_pairs_ += stride_;
        return half;
    }

    // Neighbouring pairs overlap with stride 1.
    EFFNET_EDGE_INLINE void take_pair(int8x16_t (&pair)[2]) {
        const int8x16_t first = kStride == 1 ? half_ : take_half();
        half_ = take_half();
        interleave(first, half_, pair);
    }

    const uint8_t* in_[Layout::kInputRows];
    size_t at_ = 0, at_of_pairs_ = 0, stride_;
    int8x16_t groups_[kCarried + kPhases * kTogether * kStride][Layout::kGroups][2];
    int8x16_t pairs_[kCarriedPairs + kPhases * kTogether][2];
    int8x16_t half_;
};

// Weights in registers, for kernels with few of them.
template <int kVectors>
class Resident {
  public:
    EFFNET_EDGE_INLINE explicit Resident(const int8_t* from) {
        unrolled<kVectors>(
            [&](auto i) EFFNET_EDGE_INLINED { vectors_[i.value] = vld1q_s8(from + i.value * 16); });
    }
    EFFNET_EDGE_INLINE void renew() {}
    template <int kIndex>
    EFFNET_EDGE_INLINE int8x16_t operator()(Index<kIndex>) const {
        return vectors_[kIndex];
    }

  private:
    int8x16_t vectors_[kVectors];
};

// Weights in memory. The compiler must not know that they stay the same: it would load all of them
// before the loop, and spill them.
class Loaded {
  public:
    EFFNET_EDGE_INLINE explicit Loaded(const int8_t* from) : from_(from) {}
    EFFNET_EDGE_INLINE void renew() { asm("" : "+r"(from_)); }
    template <int kIndex>
    EFFNET_EDGE_INLINE int8x16_t operator()(Index<kIndex>) const {
        return vld1q_s8(from_ + kIndex * 16);
    }

  private:
    const int8_t* from_;
};

template <int kFirst, int kCount, int kRows, class Window, class Weight>
EFFNET_EDGE_INLINE int32_t* multiply(Window& columns, Weight& weight, const int32_t* bias,
                                     int32_t* to) {
    int32x4_t sums[kCount * kRows * 2];
    unrolled<kCount * kRows * 2>([&](auto i) EFFNET_EDGE_INLINED {
        asm("" : "+r"(bias));  // as in dot_multiply.h
        sums[i.value] = vld1q_s32(bias + i.value % 2 * 4);
    });
    weight.renew();
    columns.template multiply<kFirst, kCount>(weight, sums);
    unrolled<kCount * kRows * 2>(
        [&](auto i) EFFNET_EDGE_INLINED { vst1q_s32(to + i.value * 4, sums[i.value]); });
    return to + kCount * kRows * 8;
}

template <int kKernel, int kStride, int kRows>
void multiply_strip(const Strip& strip) {
    using Window = Columns<kKernel, kStride, kRows>;
    constexpr int kTogether = Window::kTogether;
    constexpr int kPhases = Window::kPhases;
    std::conditional_t<kKernel == 3, Resident<weight_vectors(3)>, Loaded> weight(strip.weights);
    Window columns(strip);
    const int32_t* bias = strip.bias;
    int32_t* to = strip.sums;
    for (int left = strip.width;;) {
        if (left < kTogether) {
            if (left > 0) multiply<0, 1, kRows>(columns, weight, bias, to);
            return;
        }
        to = multiply<0, kTogether, kRows>(columns, weight, bias, to);
        left -= kTogether;
        if (kPhases == 2) {
            if (left < kTogether) {
                if (left > 0) multiply<kTogether, 1, kRows>(columns, weight, bias, to);
                return;
            }
            to = multiply<kTogether, kTogether, kRows>(columns, weight, bias, to);
            left -= kTogether;
        }
        columns.carry();
    }
}

using MultiplyStrip = void (*)(const Strip&);

template <int kRows>
MultiplyStrip multiply_strip_of(const Packed& packed) {
    if (packed.kernel == 3) {
        return packed.stride == 1 ? multiply_strip<3, 1, kRows> : multiply_strip<3, 2, kRows>;
    }
    return packed.stride == 1 ? multiply_strip<5, 1, kRows> : multiply_strip<5, 2, kRows>;
}

// Any kernel and stride, one row. `at`: of the strip's first column in an input row.
void multiply_any(const Packed& packed, const uint8_t* const* in, size_t at, const Strip& strip) {
    for (int x = 0; x < strip.width; ++x, at += packed.stride * strip.in_stride) {
        int32x4_t low = vld1q_s32(strip.bias), high = vld1q_s32(strip.bias + 4);
        const int8_t* weights = strip.weights;
        for (int tap = 0; tap < packed.kernel * packed.kernel; ++tap, weights += 8) {
            const int row = tap / packed.kernel, column = tap % packed.kernel;
            const uint8_t* from = in[row] + at + column * strip.in_stride;
            const int16x8_t products =
                vmull_s8(vld1_s8(reinterpret_cast<const int8_t*>(from)), vld1_s8(weights));
            low = vaddw_s16(low, vget_low_s16(products));
            high = vaddw_high_s16(high, products);
        }
        vst1q_s32(strip.sums + x * 8, low);
        vst1q_s32(strip.sums + x * 8 + 4, high);
    }
}

// Adds to sums of 8 channels what FinishRun::totals has, and clears that.
void flush(int16_t (&totals)[16], int32_t* sums) {
    for (int i = 0; i < 8; ++i) sums[i] += totals[i] + totals[i + 8];
    for (int16_t& total : totals) total = 0;
}

// Strips of 8 channels of all rows.
class Rows {
  public:
    Rows(const Packed& packed, const DepthwiseRun& run)
        : packed_(packed),
          run_(run),
          finish_(dot_finish(packed.epilogue)),
          two_(packed.is_known() ? multiply_strip_of<2>(packed) : nullptr),
          one_(packed.is_known() ? multiply_strip_of<1>(packed) : nullptr) {}

    // `channel`: of the panel, the first of `group`.
    void run(const uint8_t* group, int channel) {
        const DotConstants& constants = *reinterpret_cast<const DotConstants*>(group);
        Strip strip{};
        strip.in_stride = run_.in_stride;
        strip.bias = constants.bias;
        strip.weights = reinterpret_cast<const int8_t*>(group + sizeof(DotConstants));
        strip.sums = sums_;
        int columns = 0;  // in totals
        for (int r = 0, rows = 0; r < run_.rows; r += rows) {
            rows = two_ != nullptr && r + 1 < run_.rows ? 2 : 1;
            for (int x = 0; x < run_.width; x += kStripColumns) {
                strip.width = run_.width - x < kStripColumns ? run_.width - x : kStripColumns;
                if (run_.sums != nullptr && columns + strip.width > 255) {
                    flush(totals_, run_.sums + channel);
                    columns = 0;
                }
                columns += strip.width;
                multiply(strip, r, rows, x, channel);
                finish(strip.width, constants, rows,
                       run_.out + r * run_.out_row_stride + x * run_.out_stride + channel);
            }
        }
        if (run_.sums != nullptr) flush(totals_, run_.sums + channel);
    }

  private:
    void multiply(Strip& strip, int r, int rows, int x, int channel) {
        const uint8_t* const* in = run_.in + r * packed_.stride;
        const size_t at = static_cast<size_t>(x) * packed_.stride * run_.in_stride + channel;
        if (two_ == nullptr) return multiply_any(packed_, in, at, strip);
        const int input_rows = (rows - 1) * packed_.stride + packed_.kernel;
        for (int i = 0; i < input_rows; ++i) strip.in[i] = in[i] + at;
        (rows == 2 ? two_ : one_)(strip);
    }

    void finish(int width, const DotConstants& constants, int rows, uint8_t* out) {
        const size_t stride = run_.out_stride;
        if (rows == 2) {
            finish_({sums_, width, &constants, 0, out, out + run_.out_row_stride, stride, totals_},
                    packed_.epilogue);
            return;
        }
        // Two columns at a time. An odd one is computed twice.
        finish_({sums_, width / 2, &constants, 0, out, out + stride, 2 * stride, totals_},
                packed_.epilogue);
        if (width % 2 == 0) return;
        int32_t* last = sums_ + (width - 1) * 8;
        std::memcpy(last + 8, last, 8 * sizeof *last);
        int16_t before[8];
        std::memcpy(before, totals_ + 8, sizeof before);
        uint8_t* to = out + (width - 1) * stride;
        finish_({last, 1, &constants, 0, to, to, 0, totals_}, packed_.epilogue);
        std::memcpy(totals_ + 8, before, sizeof before);
    }

    const Packed& packed_;
    const DepthwiseRun& run_;
    const Finish finish_;
    const MultiplyStrip two_, one_;
    int16_t totals_[16] = {};
    int32_t sums_[kStripColumns * 2 * 8];
};

}  // namespace

size_t dot_depthwise_bytes(const Stage& stage) {
    const Packed packed(stage);
    return sizeof(Packed) + packed.groups() * packed.group_bytes();
}

void dot_depthwise_pack(const Stage& stage, void* memory) {
    Packed& packed = *new (memory) Packed(stage);
    for (int g = 0; g < packed.groups(); ++g) {
        uint8_t* group = packed.group(g);
        new (group) DotConstants(stage, packed.epilogue, g * 8);
        const auto weight = [&](int channel, int row, int column) -> int8_t {
            const int c = g * 8 + channel, k = packed.kernel;
            if (c >= stage.channels || row < 0 || row >= k || column >= k) return 0;
            return stage.weight[static_cast<size_t>(c) * stage.taps + row * k + column];
        };
        int8_t* to = reinterpret_cast<int8_t*>(group + sizeof(DotConstants));
        if (packed.is_known()) {
            pack_depthwise_weights(packed.kernel, packed.stride, weight, to);
            continue;
        }
        for (int tap = 0; tap < stage.taps; ++tap) {
            for (int i = 0; i < 8; ++i) *to++ = weight(i, tap / packed.kernel, tap % packed.kernel);
        }
    }
}

void dot_depthwise(const void* memory, const DepthwiseRun& run) {
    const Packed& packed = *static_cast<const Packed*>(memory);
    const int per_panel = kDotPanel / 8, first = run.panel * per_panel;
    Rows rows(packed, run);
    for (int g = first; g < first + per_panel && g < packed.groups(); ++g) {
        rows.run(packed.group(g), (g - first) * 8);
    }
}

}  // namespace effnet_edge
