// A convolution as kernels take it: integers, how its sums become bytes, and nothing else.
//
// Maps are NHWC bytes. Depending on the instruction set they are stored as uint8 ("unsigned maps",
// as in the .onnx file) or as the same integer minus 128 in int8 ("signed maps"). All constants
// of a stage refer to stored bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace effnet_edge {

// How an int32 sum becomes a byte. Every kernel of one kind gives the same byte as
// `to_steps` in arithmetic.h, to the last bit.
enum class Requantization : uint8_t {
    kFloat,   // round(float(sum) * scale) + zero_point, half to even: what ONNX Runtime computes
    kNarrow,  // through 16 bits: saturating rounding shift, 16-bit doubling high multiplication
    kWide,    // 32-bit doubling high multiplication, then 16 bits
};

struct Requantizer {
    Requantization kind = Requantization::kFloat;
    std::vector<int32_t> bias;  // [channels], added to the sum. With kNarrow and kWide the zero
                                // point is in it, unless the activation is a product
    std::vector<float> scale;   // [channels], kFloat
    std::vector<int32_t> multiplier;  // [channels], kNarrow: int16 values, Q15; kWide: Q31
    int shift = 0;                    // kNarrow: 1 to 15
    int32_t zero_point = 0;           // kFloat: of the byte before the lookup, always 0 to 255
};

// How a lookup of a byte is made. All channels share the table.
enum class Lookup : uint8_t {
    kNone,          // the byte itself (with signed maps: minus 128)
    kExact,         // table[byte]
    kInterpolated,  // 32 pieces of 8 steps: base[byte / 8] + slope[byte / 8] * (byte % 8 - 4) /
                    // 2^n, plus correction[byte - correction_first] where there is one
};

// An activation function. Without `product` it is a lookup of the byte that the requantizer gives;
// that byte is uint8 even where maps are signed, what the lookup gives is stored as maps are.
//
// With `product` (SiLU whose channels have factors) it is value * sigmoid(argument), both made of
// the same sum: the value by the requantizer, as int16 without a zero point, the argument by a
// second set of multipliers, as a byte that the table turns into a sigmoid in 256ths:
//     result = store(multiply_high16(value, table[argument] << 7) + zero_point)
struct Activation {
    Lookup kind = Lookup::kNone;
    std::vector<uint8_t> table;  // [256]; for kInterpolated what it amounts to
    std::vector<int8_t> base;    // [32], kInterpolated
    std::vector<int8_t> slope;   // [32], kInterpolated
    int slope_shift = 0;         // kInterpolated: 3 to 6
    // kInterpolated: 32 bytes from correction_first on, where pieces alone aren't good enough, are
    // corrected by adding this, in wrapping 8 bits (TBL gives 0 for all others). Empty: none are;
    // so it always is with a product.
    std::vector<int8_t> correction;
    int correction_first = 0;

    bool product = false;
    std::vector<float> argument_scale;         // [channels], kFloat
    std::vector<int32_t> argument_multiplier;  // [channels], kNarrow and kWide, with the
                                               // requantizer's bias and shift
    int32_t argument_zero_point = 0;  // 0 to 255, added after the multiplication
    int32_t zero_point = 0;           // of the result, as stored
};

// A 1x1 convolution (taps == 0): weight [channels][depth]. A depthwise one: weight
// [channels][taps], taps = kernel * kernel, row by row. The 3x3 stem is a 1x1 one over patches.
struct Stage {
    int channels = 0;  // output channels; a multiple of 16 where the result stays inside a block
    int depth = 0;     // input channels of a 1x1 convolution, a multiple of 8
    int taps = 0;
    int stride = 1;  // of a depthwise one
    std::vector<int8_t> weight;
    Requantizer requantizer;
    Activation activation;
    bool signed_maps = false;
};

// A 1x1 convolution of one pixel with float32 results: (sum + bias) * scale, rounded once per
// operation. `weight` is [classes][depth], depth a multiple of 8.
struct Classifier {
    int classes = 0;
    int depth = 0;
    std::vector<int8_t> weight;
    std::vector<int32_t> bias;
    std::vector<float> scale;
};

}  // namespace effnet_edge
