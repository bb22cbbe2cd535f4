// The stem: a strided convolution of three channels, as a 1x1 one over patches.
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

    const Kernels& kernels_;
    int kernel_, stride_, pad_top_, pad_left_, pad_bottom_, pad_right_;
    int channels_;
    uint8_t padding_;           // the byte that stands for zero, as stored
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

void Stem::take_patches(const Run& run, int out_row, int out_width, uint8_t* patches) const {
    const bool flip = kernels_.signed_maps && !run.stored_input;
    const size_t row_bytes = static_cast<size_t>(run.width) * kColours;
    const size_t depth = conv_.depth();
    const int tap_bytes = kernel_ * kColours;
    for (int i = 0; i < kernel_; ++i) {
        uint8_t* patch = patches + static_cast<size_t>(i) * tap_bytes;
        const int y = out_row * stride_ + i - pad_top_;
        const uint8_t* row = run.input + y * static_cast<ptrdiff_t>(row_bytes);
        for (int x = 0; x < out_width; ++x, patch += depth) {
            const int first = x * stride_ - pad_left_;
            if (y < 0 || y >= run.height) {
                std::memset(patch, padding_, tap_bytes);
            } else if (first >= 0 && first + kernel_ <= run.width) {
                std::memcpy(patch, row + first * kColours, tap_bytes);
                if (flip) flip_signs(patch, patch, tap_bytes);
            } else {
                for (int j = 0; j < kernel_; ++j) {
                    const int column = first + j;
                    const bool inside = column >= 0 && column < run.width;
                    for (int colour = 0; colour < kColours; ++colour) {
                        const uint8_t byte =
                            inside ? row[column * kColours + colour] ^ (flip ? 0x80 : 0) : padding_;
                        patch[j * kColours + colour] = byte;
                    }
                }
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
                conv_.run({patches, depth, to, channels, row_bytes, 1, out.width, 0,
                           conv_.panels()});
                if (kernels_.signed_maps && !run.stored_output) flip_signs(to, to, row_bytes);
            }
        });
}

}  // namespace

std::unique_ptr<ee_part> make_stem(const Kernels& kernels, const ee_stem& stem) {
    return std::make_unique<Stem>(kernels, stem);
}

}  // namespace effnet_edge
