// An MBConv block: expand and depthwise in bands of rows, squeeze-excite, project, residual.
//
//     input --expand--> ring of rows --depthwise--> map --gate--> pixels --project--> output
//                                         |                ^                            |
//                                        sums --excite--> gates              + input ---+
//
// The first half goes panel by panel (a panel is a few dozen of the expanded channels), so that a
// ring of a few rows stays in the first caches; the expanded map as a whole never exists.
#include <array>
#include <cmath>
#include <cstring>
#include <optional>
#include <string>

#include "arithmetic.h"
#include "expanded_rows.h"
#include "map_conversion.h"
#include "packed.h"
#include "part.h"
#include "scheduling.h"
#include "squeeze_excite.h"
#include "stage_maker.h"
#include "unsupported.h"

namespace effnet_edge {
namespace {

constexpr size_t kRingBytes = 40 << 10;   // of rows that should stay near
constexpr size_t kGatedBytes = 20 << 10;  // of gated pixels at a time
constexpr int kPixelStep = 24;            // gated pixels come in multiples of this
constexpr int kTasksPerThread = 4;
constexpr int kLeastBandRows = 8;
constexpr int kMostBlockRows = 16;

// The addition of the block's input, as `AddRun` has it.
struct Residual {
    int16_t multiplier = 0, shortcut_multiplier = 0, offset = 0;
    int shift = 0;

    Residual(const Kernels& kernels, ee_quantization summand, ee_quantization shortcut,
             ee_quantization total) {
        const double a = static_cast<double>(summand.scale) / total.scale;
        const double b = static_cast<double>(shortcut.scale) / total.scale;
        shift = 6;
        const auto too_large = [&] {
            return std::max(a, b) * std::exp2(8 + shift) > 32767 ||
                   (a + b) * 255 * std::exp2(shift) > 32000;
        };
        while (shift > 0 && too_large()) --shift;
        if (too_large()) throw Unsupported("the sum's scale is too fine for its summands");
        multiplier = static_cast<int16_t>(std::nearbyint(a * std::exp2(8 + shift)));
        shortcut_multiplier = static_cast<int16_t>(std::nearbyint(b * std::exp2(8 + shift)));
        const double moved =
            (stored_zero_point(kernels, summand) * static_cast<double>(multiplier) +
             stored_zero_point(kernels, shortcut) * static_cast<double>(shortcut_multiplier)) /
            256;
        const double constant = stored_zero_point(kernels, total) * std::exp2(shift) - moved +
                                (shift > 0 ? std::exp2(shift - 1) : 0);
        offset = static_cast<int16_t>(saturate16(round_to_int(constant)));
    }
};

class MBConv final : public ee_part {
  public:
    MBConv(const Kernels& kernels, const ee_mbconv& block);

    int in_channels() const override { return in_channels_; }
    Shape output(int height, int width) const override {
        return {(height + pad_top_ + pad_bottom_ - kernel_) / stride_ + 1,
                (width + pad_left_ + pad_right_ - kernel_) / stride_ + 1, project_.channels()};
    }
    size_t scratch(int height, int width, int threads, bool stored_input) const override {
        return layout(height, width, threads, stored_input, nullptr).bytes;
    }
    void run(const Run& run) const override;

  private:
    struct Layout {
        size_t bytes;
        uint8_t* input;  // as the kernels like it, unless it is given so
        uint8_t* map;    // of the depthwise convolution
        int32_t* sums;   // [lanes][channels]
        uint8_t* gates;
        int16_t* multipliers;
        int16_t* offsets;
        void* excite;
        uint8_t* lanes;  // [lanes][lane_bytes]: rings, then gated pixels, in the same memory
        size_t lane_bytes;
        int ring_rows, block_rows, gated_pixels;
    };

    bool needs_conversion(bool stored_input) const {
        return MapConversion::needed(kernels_, in_channels_, stored_input);
    }
    // Bytes from pixel to pixel in the ring.
    size_t row_channels() const { return std::min<size_t>(kernels_.panel, channels_); }
    RowGeometry rows(int height, int width) const {
        return {height,    width,      static_cast<int>(row_channels()),
                pad_left_, pad_right_, static_cast<uint8_t>(row_padding_)};
    }
    int block_rows(const RowGeometry& geometry, int out_rows) const;
    Layout layout(int height, int width, int threads, bool stored_input, void* memory) const;
    void expand_and_convolve(const Run& run, const Layout& at, const uint8_t* input,
                             Shape out) const;
    void convolve_band(const Layout& at, const uint8_t* input, Shape out, int panel, int first_row,
                       int last_row, ExpandedRows& ring, int32_t* sums, int height,
                       int width) const;
    void fill_rows(const uint8_t* input, int panel, int first, int last, ExpandedRows& ring,
                   int width) const;
    void copy_row(const uint8_t* from, int panel, uint8_t* to, int width) const;
    void excite(const Layout& at, size_t pixels, int lanes) const;
    void project(const Run& run, const Layout& at, const uint8_t* input, Shape out) const;
    void add_input(const uint8_t* input, int first, int count, uint8_t* to) const;

    const Kernels& kernels_;
    int in_channels_, kernel_, stride_;
    int pad_top_, pad_left_, pad_bottom_, pad_right_;
    int row_padding_;
    size_t channels_;  // of the expanded map, padded to a multiple of 16
    std::optional<Pointwise> expand_;
    Depthwise depthwise_;
    std::optional<SqueezeExcite> squeeze_excite_;
    std::optional<Gating> gating_;
    Pointwise project_;
    std::optional<Residual> residual_;
};

MBConv::MBConv(const Kernels& kernels, const ee_mbconv& block)
    : kernels_(kernels),
      kernel_(block.depthwise.kernel),
      stride_(block.depthwise.stride),
      pad_top_(block.depthwise.pad_top),
      pad_left_(block.depthwise.pad_left),
      pad_bottom_(block.depthwise.pad_bottom),
      pad_right_(block.depthwise.pad_right) {
    const ee_conv& depthwise = block.depthwise;
    const int channels = depthwise.out_channels;
    check_quantization(block.input, "the block's input");
    check_conv(depthwise, "depthwise");
    check_conv(block.project, "project");
    if (depthwise.in_channels != 1 || block.project.in_channels != channels ||
        block.project.kernel != 1 || block.project.silu != nullptr) {
        throw Unsupported("the block's convolutions don't fit each other");
    }
    in_channels_ = channels;
    channels_ = round_up(channels, 16);
    ee_quantization rows = block.input;
    if (block.expand != nullptr) {
        check_conv(*block.expand, "expand");
        if (block.expand->out_channels != channels || block.expand->kernel != 1) {
            throw Unsupported("the expand convolution doesn't fit the depthwise one");
        }
        in_channels_ = block.expand->in_channels;
        expand_.emplace(kernels, pointwise_stage(kernels, *block.expand,
                                                 {block.input, padded_order(in_channels_, 8)}, 16));
        rows = result_quantization(*block.expand);
    }
    row_padding_ = stored_zero_point(kernels, rows);
    depthwise_ = Depthwise(kernels, depthwise_stage(kernels, depthwise, rows));

    ee_quantization map = result_quantization(depthwise);
    if (block.squeeze_excite != nullptr) {
        const ee_squeeze_excite& excite = *block.squeeze_excite;
        check_quantization(excite.pool, "squeeze-excite");
        check_quantization(excite.output, "squeeze-excite");
        check_conv(excite.reduce, "squeeze-excite's reduce");
        check_conv(excite.expand, "squeeze-excite's expand");
        if (excite.reduce.in_channels != channels || excite.expand.out_channels != channels ||
            excite.expand.in_channels != excite.reduce.out_channels || excite.reduce.kernel != 1 ||
            excite.expand.kernel != 1 || excite.expand.silu != nullptr) {
            throw Unsupported("the squeeze-excite doesn't fit the depthwise convolution");
        }
        squeeze_excite_.emplace(kernels, excite, map);
        gating_.emplace(kernels, map, excite.output);
        map = excite.output;
    }
    project_ = Pointwise(kernels,
                         pointwise_stage(kernels, block.project, {map, padded_order(channels, 16)},
                                         /*multiple=*/1));
    if (block.residual != nullptr) {
        check_quantization(*block.residual, "the residual sum");
        if (stride_ != 1 || project_.channels() != in_channels_) {
            throw Unsupported("the residual sum doesn't fit the block's input");
        }
        residual_.emplace(kernels, block.project.output, block.input, *block.residual);
    }
}

// Output rows that are computed at a time: as many as let their input stay near.
int MBConv::block_rows(const RowGeometry& geometry, int out_rows) const {
    const int near = static_cast<int>(kRingBytes / geometry.row_bytes());
    const int rows = (near - kernel_) / stride_ + 1;
    return std::max(std::min({rows, out_rows, kMostBlockRows}), std::min(4, out_rows));
}

MBConv::Layout MBConv::layout(int height, int width, int threads, bool stored_input,
                              void* memory) const {
    Scratch scratch(memory);
    const Shape out = output(height, width);
    const size_t channels = channels_;
    const RowGeometry geometry = rows(height, width);
    Layout at{};
    at.block_rows = block_rows(geometry, out.height);
    at.ring_rows = std::min((at.block_rows - 1) * stride_ + kernel_, height);
    at.gated_pixels =
        static_cast<int>(std::max<size_t>(kGatedBytes / channels / kPixelStep, 1) * kPixelStep);
    at.lane_bytes = round_up(std::max(ExpandedRows::bytes(geometry, at.ring_rows),
                                      gating_ ? at.gated_pixels * channels : 0),
                             kAlignment);
    if (needs_conversion(stored_input)) {
        at.input = scratch.take<uint8_t>(MapConversion::bytes(height, width, in_channels_));
    }
    at.map = scratch.take<uint8_t>(static_cast<size_t>(out.height) * out.width * channels);
    at.sums = scratch.take<int32_t>(threads * channels);
    at.gates = scratch.take<uint8_t>(channels);
    at.multipliers = scratch.take<int16_t>(channels);
    at.offsets = scratch.take<int16_t>(channels);
    at.excite = scratch.take<uint8_t>(squeeze_excite_ ? squeeze_excite_->scratch() : 0);
    at.lanes = scratch.take<uint8_t>(threads * at.lane_bytes);
    at.bytes = scratch.used();
    return at;
}

void MBConv::run(const Run& run) const {
    const int threads = thread_count(run.scheduler);
    const Layout at = layout(run.height, run.width, threads, run.stored_input, run.scratch);
    const Shape out = output(run.height, run.width);
    const uint8_t* input = run.input;
    if (needs_conversion(run.stored_input)) {
        MapConversion::run(kernels_, run, in_channels_, at.input);
        input = at.input;
    }
    expand_and_convolve(run, at, input, out);
    if (squeeze_excite_) excite(at, static_cast<size_t>(out.height) * out.width, threads);
    project(run, at, input, out);
}

void MBConv::expand_and_convolve(const Run& run, const Layout& at, const uint8_t* input,
                                 Shape out) const {
    const int threads = thread_count(run.scheduler);
    const int panels = depthwise_.panels();
    const size_t channels = channels_;
    // With one thread a panel is one task: neighbouring bands compute the rows between them twice.
    int bands = 1;
    if (threads > 1) {
        const int wanted = (threads * kTasksPerThread + panels - 1) / panels;
        bands = std::max(1, std::min(wanted, out.height / kLeastBandRows));
    }
    std::memset(at.sums, 0, threads * channels * sizeof(int32_t));
    const RowGeometry geometry = rows(run.height, run.width);
    const auto ring = [&](int lane) {
        return ExpandedRows(geometry, at.ring_rows, at.lanes + lane * at.lane_bytes);
    };
    run_tasks(
        run.scheduler, panels * bands, [&](int lane) { ring(lane).clear(); },
        [&](int lane, int task) {
            const int panel = task / bands, band = task % bands;
            ExpandedRows rows = ring(lane);
            convolve_band(at, input, out, panel, out.height * band / bands,
                          out.height * (band + 1) / bands, rows, at.sums + lane * channels,
                          run.height, run.width);
        });
}

void MBConv::convolve_band(const Layout& at, const uint8_t* input, Shape out, int panel,
                           int first_row, int last_row, ExpandedRows& ring, int32_t* sums,
                           int height, int width) const {
    const size_t channels = channels_;
    const size_t first_channel = static_cast<size_t>(panel) * kernels_.panel;
    std::array<const uint8_t*, kMostBlockRows * kMostKernel> pointers;
    int filled = std::max(first_row * stride_ - pad_top_, 0);
    for (int r = first_row; r < last_row; r += at.block_rows) {
        const int count = std::min(at.block_rows, last_row - r);
        const int first_in = r * stride_ - pad_top_;
        const int last_in = first_in + (count - 1) * stride_ + kernel_;
        const int fill_to = std::min(last_in, height);
        if (fill_to > filled) {
            fill_rows(input, panel, filled, fill_to, ring, width);
            filled = fill_to;
        }
        ring.find(first_in, last_in - first_in, pointers.data());
        const size_t row = static_cast<size_t>(out.width) * channels;
        depthwise_.run({pointers.data(), row_channels(), at.map + r * row + first_channel, channels,
                        row, count, out.width, panel,
                        squeeze_excite_ ? sums + first_channel : nullptr});
    }
}

void MBConv::fill_rows(const uint8_t* input, int panel, int first, int last, ExpandedRows& ring,
                       int width) const {
    const size_t in_stride = MapConversion::stride(in_channels_);
    for (int row = first; row < last;) {
        const int count = ring.consecutive(row, last - row);
        const uint8_t* from = input + static_cast<size_t>(row) * width * in_stride;
        if (expand_) {
            expand_->run({from, in_stride, ring.inner(row), row_channels(), ring.row_bytes(), count,
                          width, panel, panel + 1});
        } else {
            for (int i = 0; i < count; ++i) {
                copy_row(from + static_cast<size_t>(i) * width * in_stride, panel,
                         ring.inner(row + i), width);
            }
        }
        row += count;
    }
}

// A row of the input where nothing expands it.
void MBConv::copy_row(const uint8_t* from, int panel, uint8_t* to, int width) const {
    const size_t in_stride = MapConversion::stride(in_channels_), out_stride = row_channels();
    if (in_stride == out_stride) {
        std::memcpy(to, from, width * in_stride);
        return;
    }
    const int first = panel * kernels_.panel;
    const int channels = std::min(kernels_.panel, in_channels_ - first);
    from += first;
    // Pixels of the input have a multiple of 8 channels. Copies of a fixed size are an instruction
    // each.
    if (channels == 16) {
        for (int x = 0; x < width; ++x, from += in_stride, to += out_stride) {
            std::memcpy(to, from, 16);
        }
        return;
    }
    for (int x = 0; x < width; ++x, from += in_stride, to += out_stride) {
        for (int c = 0; c < channels; c += 8) std::memcpy(to + c, from + c, 8);
    }
}

void MBConv::excite(const Layout& at, size_t pixels, int lanes) const {
    for (int lane = 1; lane < lanes; ++lane) {
        for (size_t c = 0; c < channels_; ++c) at.sums[c] += at.sums[lane * channels_ + c];
    }
    squeeze_excite_->run(at.sums, pixels, at.gates, at.excite);
    for (size_t c = 0; c < channels_; ++c) {
        at.multipliers[c] = gating_->multiplier(at.gates[c]);
        at.offsets[c] = gating_->offset(at.gates[c]);
    }
}

void MBConv::project(const Run& run, const Layout& at, const uint8_t* input, Shape out) const {
    const size_t channels = channels_, out_channels = out.channels;
    const int pixels = out.height * out.width;
    int block = at.gated_pixels;
    const int threads = thread_count(run.scheduler);
    if (threads > 1) block = std::min(block, std::max((pixels + threads - 1) / threads, 8));
    const bool flip = kernels_.signed_maps && !run.stored_output;
    run_tasks(run.scheduler, (pixels + block - 1) / block, [&](int lane, int task) {
        const int first = task * block, count = std::min(block, pixels - first);
        const uint8_t* map = at.map + first * channels;
        if (gating_) {
            uint8_t* gated = at.lanes + lane * at.lane_bytes;
            kernels_.gate({map, gated, static_cast<size_t>(count), static_cast<int>(channels),
                           at.multipliers, at.offsets, gating_->shift()});
            map = gated;
        }
        uint8_t* to = static_cast<uint8_t*>(run.output) + first * out_channels;
        project_.run({map, channels, to, out_channels, out_channels * count, 1, count, 0,
                      project_.panels()});
        if (residual_) add_input(input, first, count, to);
        if (flip) flip_signs(to, to, count * out_channels);
    });
}

void MBConv::add_input(const uint8_t* input, int first, int count, uint8_t* to) const {
    const size_t stride = MapConversion::stride(in_channels_), channels = in_channels_;
    // Pixels that follow each other without a gap are one long row.
    const int rows = stride == channels ? 1 : count;
    const size_t bytes = channels * count / rows;
    const uint8_t* from = input + first * stride;
    for (int row = 0; row < rows; ++row) {
        kernels_.add({to + row * bytes, from + row * stride, bytes, residual_->multiplier,
                      residual_->shortcut_multiplier, residual_->offset, residual_->shift});
    }
}

}  // namespace

std::unique_ptr<ee_part> make_mbconv(const Kernels& kernels, const ee_mbconv& block) {
    return std::make_unique<MBConv>(kernels, block);
}

}  // namespace effnet_edge
