// The stem: a strided convolution of three channels, as a 1x1 one over patches.
#include <algorithm>
#include <cstring>
#include <string>

#include "map_conversion.h"
#include "packed.h"
#include "part.h"
#include "scheduling.h"
#include "stage_maker.h"
#include "unsupported.h"

namespace effnet_edge {
namespace {

constexpr int kColours = 3;
constexpr int kRowsPerTask = 4;

class Stem final : public ee_part {
  public:
    Stem(const Kernels& kernels, const ee_stem& stem);

    int in_channels() const override { return kColours; }
    Shape output(int height, int width) const override {
        return {(height + pad_top_ + pad_bottom_ - kernel_) / stride_ + 1,
                (width + pad_left_ + pad_right_ - kernel_) / stride_ + 1, channels_};
    }
    size_t scratch(int height, int width, int threads, bool) const override {
        return threads * patch_bytes(output(height, width).width);
    }
    void run(const Run& run) const override;

  private:
    size_t patch_bytes(int out_width) const {
        return round_up(static_cast<size_t>(out_width) * conv_.depth() + kAlignment, kAlignment);
    }
    void take_patches(const Run& run, int out_row, int out_width, uint8_t* patches) const;
    void take_patch(const Run& run, int top, int left, bool flip, uint8_t* patch) const;

    const Kernels& kernels_;
    int kernel_, stride_, pad_top_, pad_left_, pad_bottom_, pad_right_;
    int channels_;
    uint8_t padding_;  // the byte that stands for zero, as stored
    Pointwise conv_;
};

Stem::Stem(const Kernels& kernels, const ee_stem& stem)
    : kernels_(kernels),
      kernel_(stem.conv.kernel),
      stride_(stem.conv.stride),
      pad_top_(stem.conv.pad_top),
      pad_left_(stem.conv.pad_left),
      pad_bottom_(stem.conv.pad_bottom),
      pad_right_(stem.conv.pad_right),
      channels_(stem.conv.out_channels),
      padding_(static_cast<uint8_t>(stored_zero_point(kernels, stem.input))) {
    check_quantization(stem.input, "the stem's input");
    check_conv(stem.conv, "stem");
    if (stem.conv.in_channels != kColours) throw Unsupported("the stem's input isn't RGB");

    // A patch is row by row, column by column, RGB: weights are colour by colour.
    StageInput input{stem.input, {}};
    const int taps = kernel_ * kernel_;
    for (int tap = 0; tap < taps; ++tap) {
        for (int colour = 0; colour < kColours; ++colour) {
            input.order.push_back(colour * taps + tap);
        }
    }
    input.order.resize(round_up(input.order.size(), 32), -1);

    conv_ = Pointwise(kernels, pointwise_stage(kernels, stem.conv, input, /*multiple=*/1));
}

// 16 bytes of a row, of which the first `kernel * kColours` are wanted.
inline void copy16(const uint8_t* from, uint8_t* to, uint64_t flip) {
    uint64_t halves[2];
    std::memcpy(halves, from, sizeof halves);
    halves[0] ^= flip;
    halves[1] ^= flip;
    std::memcpy(to, halves, sizeof halves);
}

void Stem::take_patches(const Run& run, int out_row, int out_width, uint8_t* patches) const {
    const ptrdiff_t row_bytes = static_cast<ptrdiff_t>(run.width) * kColours;
    const size_t depth = conv_.depth();
    const bool flip = kernels_.signed_maps && !run.stored_input;
    const uint64_t flips = flip ? UINT64_C(0x8080808080808080) : 0;
    const int top = out_row * stride_ - pad_top_;
    // Patches whose rows can be copied 16 bytes at a time: each overwrites what the last one left
    // too much, and what is too much of the last row meets weights of zero.
    int first_inner = 0, last_inner = 0;
    if (kernel_ == 3 && top >= 0 && top + 2 < run.height) {
        const ptrdiff_t left_in_image = (run.height - (top + 2)) * row_bytes;
        first_inner = std::min((pad_left_ + stride_ - 1) / stride_, out_width);
        // The last column at which a patch may begin.
        const ptrdiff_t column =
            left_in_image < 16
                ? -1
                : std::min<ptrdiff_t>(run.width - 3, (left_in_image - 16) / kColours);
        if (column >= 0) last_inner = static_cast<int>((column + pad_left_) / stride_ + 1);
        last_inner = std::max(std::min(last_inner, out_width), first_inner);
    }
    const auto take = [&](int x) {
        take_patch(run, top, x * stride_ - pad_left_, flip, patches + x * depth);
    };
    for (int x = 0; x < first_inner; ++x) take(x);
    const uint8_t* from = run.input + top * row_bytes +
                          static_cast<ptrdiff_t>(first_inner * stride_ - pad_left_) * kColours;
    for (int x = first_inner; x < last_inner; ++x, from += stride_ * kColours) {
        uint8_t* patch = patches + x * depth;
        copy16(from, patch, flips);
        copy16(from + row_bytes, patch + 9, flips);
        copy16(from + 2 * row_bytes, patch + 18, flips);
    }
    for (int x = last_inner; x < out_width; ++x) take(x);
}

void Stem::take_patch(const Run& run, int top, int left, bool flip, uint8_t* patch) const {
    const size_t row_bytes = static_cast<size_t>(run.width) * kColours;
    for (int i = 0; i < kernel_; ++i) {
        for (int j = 0; j < kernel_; ++j, patch += kColours) {
            const int y = top + i, x = left + j;
            const bool inside = y >= 0 && y < run.height && x >= 0 && x < run.width;
            for (int colour = 0; colour < kColours; ++colour) {
                const size_t at = y * row_bytes + static_cast<size_t>(x) * kColours + colour;
                patch[colour] = inside ? run.input[at] ^ (flip ? 0x80 : 0) : padding_;
            }
        }
    }
}

void Stem::run(const Run& run) const {
    const Shape out = output(run.height, run.width);
    const size_t lane = patch_bytes(out.width);
    const size_t channels = channels_, row_bytes = out.width * channels;
    const size_t depth = conv_.depth(), taken = static_cast<size_t>(kernel_) * kernel_ * kColours;
    uint8_t* scratch = static_cast<uint8_t*>(run.scratch);
    run_tasks(
        run.scheduler, (out.height + kRowsPerTask - 1) / kRowsPerTask,
        [&](int l) {
            // What a patch has behind its taps is multiplied by zero, but must be there.
            for (int x = 0; x < out.width; ++x) {
                std::memset(scratch + l * lane + x * depth + taken, 0, depth - taken);
            }
        },
        [&](int l, int task) {
            uint8_t* patches = scratch + l * lane;
            const int last = std::min((task + 1) * kRowsPerTask, out.height);
            for (int r = task * kRowsPerTask; r < last; ++r) {
                take_patches(run, r, out.width, patches);
                uint8_t* to = static_cast<uint8_t*>(run.output) + r * row_bytes;
                conv_.run(
                    {patches, depth, to, channels, row_bytes, 1, out.width, 0, conv_.panels()});
                if (kernels_.signed_maps && !run.stored_output) flip_signs(to, to, row_bytes);
            }
        });
}

}  // namespace

std::unique_ptr<ee_part> make_stem(const Kernels& kernels, const ee_stem& stem) {
    return std::make_unique<Stem>(kernels, stem);
}

}  // namespace effnet_edge
