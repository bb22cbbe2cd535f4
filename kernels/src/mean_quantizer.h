// From sums over a map to its quantized mean.
#pragma once

#include "effnet_edge_kernels.h"
#include "kernel.h"

namespace effnet_edge {

class MeanQuantizer {
  public:
    MeanQuantizer() = default;
    MeanQuantizer(const Kernels& kernels, ee_quantization map, ee_quantization mean);

    // `sums` of the stored bytes of `pixels`; `means` are stored bytes.
    void run(const int32_t* sums, size_t channels, size_t pixels, uint8_t* means) const;

  private:
    float zero_point_ = 0;  // of the map, as stored
    float ratio_ = 0;       // of the map's scale to the mean's
    float mean_zero_point_ = 0;
    uint8_t flip_ = 0;
};

}  // namespace effnet_edge
