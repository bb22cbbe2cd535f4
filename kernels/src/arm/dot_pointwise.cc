// 1x1 convolutions with dot products.
//
// Scheduling before register allocation spills sums to load weights early; cross-jumping cuts the
// ends off the epilogue's cases.
#pragma GCC optimize("no-schedule-insns,no-crossjumping")

#include "dot_pointwise.h"

#include "dot_multiply.h"
#include "dot_tile.h"

namespace effnet_edge {
namespace {

struct DotProducts {
    static constexpr int kTilePixels = effnet_edge::kTilePixels;
    static constexpr int kTileLeastDepth = 16;

    template <class Weight>
    static void pack_weights(int vectors, int depth, int8_t* to, const Weight& weight) {
        effnet_edge::pack_weights(vectors, depth, to, weight);
    }
    static EFFNET_EDGE_INLINE void multiply_tile(const uint8_t* in, size_t stride,
                                                 const int8_t* weights, int depth,
                                                 const int32_t* bias,
                                                 int32x4_t (&sums)[kTilePixels * 4]) {
        effnet_edge::multiply_tile(in, stride, weights, depth, bias, sums);
    }
    template <int kPixels, int kVectors>
    static EFFNET_EDGE_INLINE void multiply(const uint8_t* const (&in)[kPixels],
                                            const int8_t* weights, int depth, const int32_t* bias,
                                            int32x4_t (&sums)[kPixels * kVectors]) {
        accumulate<kPixels, kVectors>(in, weights, depth, bias, sums);
    }
};

}  // namespace

size_t dot_pointwise_bytes(const Stage& stage) { return pointwise_bytes(stage); }

void dot_pointwise_pack(const Stage& stage, void* packed) {
    pack_pointwise<DotProducts>(stage, packed);
}

void dot_pointwise(const void* packed, const PointwiseRun& run) {
    run_pointwise<DotProducts>(packed, run);
}

}  // namespace effnet_edge
