#include "mean_quantizer.h"

#include <algorithm>
#include <cmath>

#include "stage_maker.h"

namespace effnet_edge {

MeanQuantizer::MeanQuantizer(const Kernels& kernels, ee_quantization map, ee_quantization mean)
    : zero_point_(static_cast<float>(stored_zero_point(kernels, map))),
      ratio_(map.scale / mean.scale),
      mean_zero_point_(static_cast<float>(mean.zero_point)),
      flip_(kernels.signed_maps ? 0x80 : 0) {}

void MeanQuantizer::run(const int32_t* sums, size_t channels, size_t pixels,
                        uint8_t* means) const {
    const float over = 1.0F / static_cast<float>(pixels);
    // Adding and subtracting 1.5 * 2^23 rounds half to even, and unlike a library's function it is
    // one instruction everywhere.
    constexpr float kRounding = 12582912.0F;
    for (size_t c = 0; c < channels; ++c) {
        const float mean = static_cast<float>(sums[c]) * over - zero_point_;
        const float steps =
            std::min(std::max(mean * ratio_ + mean_zero_point_, 0.0F), 255.0F);
        const float rounded = (steps + kRounding) - kRounding;
        means[c] = static_cast<uint8_t>(static_cast<int>(rounded) ^ flip_);
    }
}

}  // namespace effnet_edge
