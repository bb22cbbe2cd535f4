// 1x1 convolutions with matrix products: SMMLA multiplies 8 inputs of two pixels with those weights
// of two channels, twice the products of SDOT.
#pragma GCC optimize("no-schedule-insns,no-crossjumping")  // as in dot_pointwise.cc

#include "i8mm_kernels.h"

#include "dot_pointwise.h"

namespace effnet_edge {
namespace {

struct MatrixProducts {
    static constexpr int kTilePixels = 4;
    static constexpr int kTileLeastDepth = 8;

    // Eight inputs of two channels in a register.
    template <class Weight>
    static void pack_weights(int vectors, int depth, int8_t* to, const Weight& weight) {
        for (int k = 0; k < depth; k += 8) {
            for (int c = 0; c < 4 * vectors; ++c) {
                for (int i = 0; i < 8; ++i) *to++ = weight(c, k + i);
            }
        }
    }

    static EFFNET_EDGE_INLINE void multiply_tile(const uint8_t* in, size_t stride,
                                                 const int8_t* weights, int depth,
                                                 const int32_t* bias,
                                                 int32x4_t (&sums)[kTilePixels * 4]) {
        const uint8_t* pixels[kTilePixels];
        unrolled<kTilePixels>([&](auto p)
                                  EFFNET_EDGE_INLINED { pixels[p.value] = in + p.value * stride; });
        multiply<kTilePixels, 4>(pixels, weights, depth, bias, sums);
    }

    template <int kPixels, int kVectors>
    static EFFNET_EDGE_INLINE void multiply(const uint8_t* const (&in)[kPixels],
                                            const int8_t* weights, int depth, const int32_t* bias,
                                            int32x4_t (&sums)[kPixels * kVectors]) {
        constexpr int kPairs = (kPixels + 1) / 2, kChannelPairs = 2 * kVectors;
        int32x4_t products[kPairs * kChannelPairs];  // [pixel][channel] of two of each
        const int32_t* biases = bias;
        unrolled<kPairs>([&](auto pair) EFFNET_EDGE_INLINED {
            asm("" : "+r"(biases));  // as in dot_multiply.h
            unrolled<kChannelPairs>([&](auto c) EFFNET_EDGE_INLINED {
                products[pair.value * kChannelPairs + c.value] = vreinterpretq_s32_s64(
                    vld1q_dup_s64(reinterpret_cast<const int64_t*>(biases + 2 * c.value)));
            });
        });
        for (int k = 0; k < depth; k += 8, weights += 16 * kChannelPairs) {
            int8x16_t x[kPairs];
            unrolled<kPairs>([&](auto pair) EFFNET_EDGE_INLINED {
                constexpr int first = 2 * decltype(pair)::value;
                constexpr int second = first + 1 < kPixels ? first + 1 : first;
                x[pair.value] =
                    vcombine_s8(vld1_s8(reinterpret_cast<const int8_t*>(in[first] + k)),
                                vld1_s8(reinterpret_cast<const int8_t*>(in[second] + k)));
            });
            unrolled<kChannelPairs>([&](auto c) EFFNET_EDGE_INLINED {
                const int8x16_t w = vld1q_s8(weights + 16 * c.value);
                unrolled<kPairs>([&](auto pair) EFFNET_EDGE_INLINED {
                    int32x4_t& sum = products[pair.value * kChannelPairs + c.value];
                    sum = vmmlaq_s32(sum, x[pair.value], w);
                });
            });
        }
        unrolled<kPixels>([&](auto pixel) EFFNET_EDGE_INLINED {
            unrolled<kVectors>([&](auto v) EFFNET_EDGE_INLINED {
                constexpr int p = decltype(pixel)::value;
                constexpr int at = p / 2 * kChannelPairs + 2 * decltype(v)::value;
                const int64x2_t low = vreinterpretq_s64_s32(products[at]);
                const int64x2_t high = vreinterpretq_s64_s32(products[at + 1]);
                sums[p * kVectors + v.value] = vreinterpretq_s32_s64(
                    p % 2 == 0 ? vzip1q_s64(low, high) : vzip2q_s64(low, high));
            });
        });
    }
};

}  // namespace

size_t i8mm_pointwise_bytes(const Stage& stage) { return pointwise_bytes(stage); }

void i8mm_pointwise_pack(const Stage& stage, void* packed) {
    pack_pointwise<MatrixProducts>(stage, packed);
}

void i8mm_pointwise(const void* packed, const PointwiseRun& run) {
    run_pointwise<MatrixProducts>(packed, run);
}

}  // namespace effnet_edge
