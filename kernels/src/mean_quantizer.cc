#include "mean_quantizer.h"

#include <algorithm>

#include "arithmetic.h"
#include "stage_maker.h"
#include "unsupported.h"

namespace effnet_edge {
namespace {

constexpr float kMostRatio = 1 << 20;  // so that a mean of 255 steps stays an int32

}  // namespace

MeanQuantizer::MeanQuantizer(const Kernels& kernels, ee_quantization map, ee_quantization mean)
    : zero_point_(static_cast<float>(stored_zero_point(kernels, map))),
      ratio_(map.scale / mean.scale),
      mean_zero_point_(static_cast<float>(mean.zero_point)),
      flip_(kernels.signed_maps ? 0x80 : 0) {
    if (!(ratio_ < kMostRatio)) throw Unsupported("a mean's scale is too fine for its map");
}

void MeanQuantizer::run(const int32_t* sums, size_t channels, size_t pixels, uint8_t* means) const {
    const float over = 1.0F / static_cast<float>(pixels);
    // Values that are too large to be rounded saturate anyway.
    for (size_t c = 0; c < channels; ++c) {
        const float mean = static_cast<float>(sums[c]) * over - zero_point_;
        const float steps = mean * ratio_ + mean_zero_point_;
        const int32_t rounded = static_cast<int32_t>(round_half_even(steps));
        means[c] = static_cast<uint8_t>(std::min(std::max(rounded, 0), 255) ^ flip_);
    }
}

}  // namespace effnet_edge
