// 1x1 convolutions, 16 channels of some pixels at a time: the weights of 16 channels stay in the
// first cache while all pixels pass by. How products are summed is left to `Multiplier`:
//
//     pack_weights(vectors, depth, to, weight): of `vectors` times four channels, in its own order;
//     multiply_tile(...): kTilePixels pixels and 16 channels, of at least kTileLeastDepth inputs;
//     multiply<kPixels, kVectors>(...): any.
//
// Both give bias + products in vectors of four channels, those of a pixel one after the other.
#pragma once

#include <cstring>
#include <new>

#include "dot_epilogue.h"
#include "dot_kernels.h"

namespace effnet_edge {
namespace {

// Behind it for each 16 channels: constants and weights. The last block has weights for 8 channels
// if no more are left.
struct alignas(64) Packed {
    int channels, depth;
    DotEpilogue epilogue;

    explicit Packed(const Stage& stage)
        : channels(stage.channels), depth(stage.depth), epilogue(stage) {}

    size_t block_bytes() const { return sizeof(DotConstants) + static_cast<size_t>(depth) * 16; }
    int blocks() const { return (channels + 15) / 16; }
    uint8_t* block(int index) {
        return reinterpret_cast<uint8_t*>(this + 1) + index * block_bytes();
    }
    const uint8_t* block(int index) const { return const_cast<Packed*>(this)->block(index); }

    // Vectors of four channels that a block is computed with.
    int vectors(int index) const { return channels - index * 16 <= 8 ? 2 : 4; }
};

struct Block {
    const DotEpilogue& epilogue;
    const DotConstants& constants;
    const int8_t* weights;
    int depth;
};

// Pixels one after the other, in and out.
class Pixels {
  public:
    Pixels(const PointwiseRun& run, uint8_t* out)
        : in_(run.in),
          in_stride_(run.in_stride),
          out_(out),
          out_stride_(run.out_stride),
          to_next_row_(run.out_row_stride - run.out_stride * (run.width - 1)),
          width_(run.width),
          left_in_row_(run.width),
          left_(run.rows * run.width) {}

    int left() const { return left_; }
    size_t in_stride() const { return in_stride_; }

    template <int kCount>
    EFFNET_EDGE_INLINE void take(const uint8_t* (&in)[kCount], uint8_t* (&out)[kCount]) {
        for (int p = 0; p < kCount; ++p, in_ += in_stride_) in[p] = in_;
        left_ -= kCount;
        take_places(out);
    }

    // The first pixel's input.
    template <int kCount>
    EFFNET_EDGE_INLINE const uint8_t* take_tile(uint8_t* (&out)[kCount]) {
        const uint8_t* in = in_;
        in_ += kCount * in_stride_;
        left_ -= kCount;
        take_places(out);
        return in;
    }

    void take_one(const uint8_t*& in, uint8_t*& out) {
        const uint8_t* one_in[1];
        uint8_t* one_out[1];
        take(one_in, one_out);
        in = one_in[0];
        out = one_out[0];
    }

  private:
    template <int kCount>
    EFFNET_EDGE_INLINE void take_places(uint8_t* (&out)[kCount]) {
        if (left_in_row_ > kCount) {
            left_in_row_ -= kCount;
            for (int p = 0; p < kCount; ++p, out_ += out_stride_) out[p] = out_;
            return;
        }
        for (int p = 0; p < kCount; ++p) {
            out[p] = out_;
            const bool row_ends = --left_in_row_ == 0;
            out_ += row_ends ? to_next_row_ : out_stride_;
            if (row_ends) left_in_row_ = width_;
        }
    }

    const uint8_t* in_;
    size_t in_stride_;
    uint8_t* out_;
    size_t out_stride_, to_next_row_;
    int width_, left_in_row_, left_;
};

// 16 channels of a tile's pixels at a time, while there are that many.
//
// Stages of networks have shifts and lookups of a few kinds only. Those have code of their own, in
// which nothing is chosen for each tile; kAny: others.
constexpr int kAny = -1;

template <class Multiplier, bool kProduct, int kShift, int kLookup>
void run_tiles(const Block& block, Pixels& all) {
    constexpr int kPixels = Multiplier::kTilePixels;
    Pixels pixels = all;  // stores of bytes can't change a copy
    while (pixels.left() >= kPixels) {
        uint8_t* out[kPixels];
        const uint8_t* in = pixels.take_tile(out);
        int32x4_t sums[kPixels * 4];
        Multiplier::multiply_tile(in, pixels.in_stride(), block.weights, block.depth,
                                  block.constants.bias, sums);
        Values<kPixels * 2> values;
        if constexpr (kShift == kAny) {
            requantize<kProduct>(sums, block.epilogue.shift, block.constants, values);
        } else {
            requantize_by<kProduct, kShift>(sums, block.constants, values);
        }
        const auto put = [&](const uint8x16_t(&bytes)[kPixels]) EFFNET_EDGE_INLINED {
            unrolled<kPixels>([&](auto p)
                                  EFFNET_EDGE_INLINED { vst1q_u8(out[p.value], bytes[p.value]); });
        };
        if constexpr (kLookup == kAny) {
            activate<kProduct>(values, block.epilogue, put);
        } else {
            activate_by<kProduct, kLookup>(values, block.epilogue, put);
        }
    }
    all = pixels;
}

using RunTiles = void (*)(const Block&, Pixels&);

template <class Multiplier, bool kProduct, int kLookup>
RunTiles tiles_of_shift(int shift) {
    switch (shift) {
        case 4:
            return run_tiles<Multiplier, kProduct, 4, kLookup>;
        case 5:
            return run_tiles<Multiplier, kProduct, 5, kLookup>;
        case 6:
            return run_tiles<Multiplier, kProduct, 6, kLookup>;
        case 7:
            return run_tiles<Multiplier, kProduct, 7, kLookup>;
        case 8:
            return run_tiles<Multiplier, kProduct, 8, kLookup>;
        case 9:
            return run_tiles<Multiplier, kProduct, 9, kLookup>;
        case 10:
            return run_tiles<Multiplier, kProduct, 10, kLookup>;
        case 11:
            return run_tiles<Multiplier, kProduct, 11, kLookup>;
        default:
            return run_tiles<Multiplier, kProduct, kAny, kAny>;
    }
}

template <class Multiplier>
RunTiles tiles_of(const DotEpilogue& epilogue) {
    if (epilogue.product) {
        return epilogue.lookup == 4 ? tiles_of_shift<Multiplier, true, 4>(epilogue.shift)
                                    : run_tiles<Multiplier, true, kAny, kAny>;
    }
    switch (epilogue.lookup) {
        case 0:
            return tiles_of_shift<Multiplier, false, 0>(epilogue.shift);
        case 4:
            return tiles_of_shift<Multiplier, false, 4>(epilogue.shift);
        case 12:
            return tiles_of_shift<Multiplier, false, 12>(epilogue.shift);
        default:
            return run_tiles<Multiplier, false, kAny, kAny>;
    }
}

template <class Multiplier, int kPixels, int kVectors>
EFFNET_EDGE_INLINE void multiply_into(const uint8_t* const* from, const Block& block, int32_t* to) {
    const uint8_t* in[kPixels];
    for (int p = 0; p < kPixels; ++p) in[p] = from[p];
    int32x4_t sums[kPixels * kVectors];
    Multiplier::template multiply<kPixels, kVectors>(in, block.weights, block.depth,
                                                     block.constants.bias, sums);
    unrolled<kPixels * kVectors>(
        [&](auto i) EFFNET_EDGE_INLINED { vst1q_s32(to + 4 * i.value, sums[i.value]); });
}

// The fewer pixels that are left, or only 8 channels: sums go through memory. At most 32 pixels at
// a time.
template <class Multiplier, int kPixels, int kVectors>
void run_rest(const Block& block, Finish finish, Pixels& pixels) {
    constexpr int kMost = 32, kChannels = 4 * kVectors;
    int32_t sums[(kMost + 1) * kChannels];
    uint8_t bytes[(kMost + 1) * kChannels];
    int16_t totals[16] = {};
    const uint8_t* in[kMost];
    uint8_t* out[kMost];
    while (pixels.left() > 0) {
        int count = 0, done = 0;
        while (count < kMost && pixels.left() > 0) pixels.take_one(in[count], out[count]), ++count;
        for (; done + kPixels <= count; done += kPixels) {
            multiply_into<Multiplier, kPixels, kVectors>(in + done, block, sums + done * kChannels);
        }
        for (; done < count; ++done) {
            multiply_into<Multiplier, 1, kVectors>(in + done, block, sums + done * kChannels);
        }
        // Vectors of 8 channels are finished in pairs, an odd one with whatever follows it.
        const int finished = kVectors == 4 ? count : (count + 1) / 2;
        finish(
            {sums, finished, &block.constants, kVectors == 4 ? 8 : 0, bytes, bytes + 8, 16, totals},
            block.epilogue);
        for (int p = 0; p < count; ++p) std::memcpy(out[p], bytes + p * kChannels, kChannels);
    }
}

template <class Multiplier>
void run_block(const Packed& packed, int index, const PointwiseRun& run, uint8_t* out) {
    const uint8_t* from = packed.block(index);
    const Block block{packed.epilogue, *reinterpret_cast<const DotConstants*>(from),
                      reinterpret_cast<const int8_t*>(from + sizeof(DotConstants)), packed.depth};
    Pixels pixels(run, out);
    const Finish finish = dot_finish(packed.epilogue);
    if (packed.vectors(index) == 2) {
        run_rest<Multiplier, 8, 2>(block, finish, pixels);
        return;
    }
    if (packed.depth >= Multiplier::kTileLeastDepth) {
        tiles_of<Multiplier>(packed.epilogue)(block, pixels);
    }
    run_rest<Multiplier, 2, 4>(block, finish, pixels);
}

// The last block's channels where a store of 8 or 16 would write too many: a row of some pixels at
// a time goes through memory of our own.
template <class Multiplier>
void run_last_block(const Packed& packed, int index, const PointwiseRun& run, uint8_t* out) {
    constexpr int kPixels = 24;
    uint8_t memory[kPixels * 16];
    const int channels = packed.channels - index * 16;
    PointwiseRun some = run;
    some.out_stride = some.out_row_stride = 16;
    some.rows = 1;
    for (int r = 0; r < run.rows; ++r) {
        for (int x = 0; x < run.width; x += kPixels) {
            some.in = run.in + (static_cast<size_t>(r) * run.width + x) * run.in_stride;
            some.width = run.width - x < kPixels ? run.width - x : kPixels;
            run_block<Multiplier>(packed, index, some, memory);
            uint8_t* to = out + r * run.out_row_stride + x * run.out_stride;
            for (int p = 0; p < some.width; ++p, to += run.out_stride) {
                std::memcpy(to, memory + p * 16, channels);
            }
        }
    }
}

inline size_t pointwise_bytes(const Stage& stage) {
    const Packed packed(stage);
    return sizeof(Packed) + packed.blocks() * packed.block_bytes();
}

template <class Multiplier>
void pack_pointwise(const Stage& stage, void* memory) {
    Packed& packed = *new (memory) Packed(stage);
    for (int b = 0; b < packed.blocks(); ++b) {
        uint8_t* block = packed.block(b);
        new (block) DotConstants(stage, packed.epilogue, b * 16);
        const auto weight = [&](int channel, int k) -> int8_t {
            const int c = b * 16 + channel;
            return c < stage.channels ? stage.weight[static_cast<size_t>(c) * stage.depth + k] : 0;
        };
        Multiplier::pack_weights(packed.vectors(b), stage.depth,
                                 reinterpret_cast<int8_t*>(block + sizeof(DotConstants)), weight);
    }
}

template <class Multiplier>
void run_pointwise(const void* memory, const PointwiseRun& run) {
    const Packed& packed = *static_cast<const Packed*>(memory);
    const int per_panel = kDotPanel / 16, first = run.panel_begin * per_panel;
    for (int b = first; b < run.panel_end * per_panel && b < packed.blocks(); ++b) {
        uint8_t* out = run.out + (b - first) * 16;
        const int channels = packed.channels - b * 16;
        if (channels >= 16 || channels == 8) {
            run_block<Multiplier>(packed, b, run, out);
        } else {
            run_last_block<Multiplier>(packed, b, run, out);
        }
    }
}

}  // namespace
}  // namespace effnet_edge
