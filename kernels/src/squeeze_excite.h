// From the sums of a map's channels to what each channel is multiplied by.
#pragma once

#include <array>
#include <vector>

#include "activation.h"
#include "effnet_edge_kernels.h"
#include "mean_quantizer.h"
#include "packed.h"

namespace effnet_edge {

// The constants of a GateRun: result = gate * value, both quantized.
class Gating {
  public:
    Gating(const Kernels& kernels, ee_quantization map, ee_quantization output);

    int shift() const { return shift_; }
    int16_t multiplier(uint8_t gate) const { return multipliers_[gate]; }  // gate in 256ths
    int16_t offset(uint8_t gate) const { return offsets_[gate]; }

  private:
    std::array<int16_t, 256> multipliers_{}, offsets_{};
    int shift_ = 0;
};

class SqueezeExcite {
  public:
    // `map`: what was summed; its channels are padded to a multiple of 16.
    SqueezeExcite(const Kernels& kernels, const ee_squeeze_excite& described, ee_quantization map);

    // Bytes of `scratch`.
    size_t scratch() const;

    // `sums` of stored bytes over `pixels`; gates[c], 0 to 255, in 256ths.
    void run(const int32_t* sums, size_t pixels, uint8_t* gates, void* scratch) const;

  private:
    // A 1x1 convolution of one pixel, its results rounded to bytes.
    struct Matrix {
        PackedClassifier weights;
        int channels = 0, depth = 0;  // padded
        float zero_point = 0;

        Matrix(const Kernels& kernels, const ee_conv& conv, ee_quantization input);
        void run(const uint8_t* in, float* steps, uint8_t* out) const;
    };

    MeanQuantizer pool_;
    Matrix reduce_, expand_;
    // The activation of a byte, as stored: one for all channels, or one each.
    std::vector<ByteTable> reduced_;
    ByteTable gate_;
};

}  // namespace effnet_edge
