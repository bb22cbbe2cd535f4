// Activations as lookups of bytes.
#pragma once

#include <array>

#include "effnet_edge_kernels.h"
#include "kernel.h"

namespace effnet_edge {

using ByteTable = std::array<uint8_t, 256>;

// SiLU's table in the arithmetic of the quantized network: the sigmoid in steps of 1/256, then the
// product, each rounded once, half to even. Bytes are not "stored" ones: uint8 in and out. Without
// factors it is the same for all channels.
ByteTable silu_table(const ee_conv& conv, int channel = 0);

// The sigmoid of a byte, in 256ths, at most 255.
ByteTable sigmoid_table(ee_quantization argument);

// What turns a channel's u, in steps of the convolution's output, into steps of its sigmoid's
// argument.
double argument_ratio(const ee_conv& conv, int channel);

// The activation of a convolution, for these kernels, but for the multipliers of a product's
// argument.
Activation make_activation(const Kernels& kernels, const ee_conv& conv);

// Of a convolution's result, activated.
ee_quantization result_quantization(const ee_conv& conv);

}  // namespace effnet_edge
