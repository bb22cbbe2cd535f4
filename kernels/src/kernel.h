// What an instruction set offers: one table of kernels.
//
// A kernel has no state, allocates nothing, starts no threads and touches only what its arguments
// name. Weights are packed once, in whatever layout the kernel likes, into memory that the caller
// gives, 64-byte aligned.
//
// Panels: the output channels of a stage are taken in panels of `Kernels::panel` channels; the last
// one may be narrower. A caller computes the panels that it wants.
#pragma once

#include <cstddef>
#include <cstdint>

#include "stage.h"

namespace effnet_edge {

// 1x1 convolution, requantization and activation of `rows * width` pixels.
struct PointwiseRun {
    const uint8_t* in;  // pixel p at in + p * in_stride, `depth` bytes each; not a byte beyond
                        // these is read
    size_t in_stride;
    uint8_t* out;  // channel 0 of panel `panel_begin` of pixel (r, x) at
                   // out + r * out_row_stride + x * out_stride; exactly the channels
                   // of the panels are written
    size_t out_stride;
    size_t out_row_stride;
    int rows;
    int width;
    int panel_begin;
    int panel_end;
};

// Depthwise convolution, requantization and activation of `rows` rows of one panel.
struct DepthwiseRun {
    const uint8_t* const* in;  // output row r reads in[r * stride] to in[r * stride + kernel - 1].
                               // Each points at the row's first byte, padding included: column x
                               // of the panel's first channel is at in[i] + x * in_stride. 64 bytes
                               // behind the last are readable
    size_t in_stride;
    uint8_t* out;  // pixel (r, x): out + r * out_row_stride + x * out_stride
    size_t out_stride;
    size_t out_row_stride;
    int rows;
    int width;  // output columns
    int panel;
    int32_t* sums;  // [channels of the panel], each output byte as stored (int8 with
                    // signed maps) is added; nullptr: not wanted
};

// out = saturate((multiply_high16(in << 7, multiplier) + offset) >> shift), the sum saturating in
// 16 bits, `in` and `out` as stored. Channels are a multiple of 16, strides are `channels`.
struct GateRun {
    const uint8_t* in;
    uint8_t* out;
    size_t pixels;
    int channels;
    const int16_t* multiplier;  // [channels]
    const int16_t* offset;      // [channels], the rounding half included
    int shift;                  // 0 to 6
};

// inout = saturate((multiply_high16(inout << 7, multiplier) +
//                   multiply_high16(shortcut << 7, shortcut_multiplier) + offset) >> shift), the
// sums saturating in 16 bits, from left to right.
struct AddRun {
    uint8_t* inout;
    const uint8_t* shortcut;
    size_t bytes;  // any number
    int16_t multiplier;
    int16_t shortcut_multiplier;
    int16_t offset;  // the rounding half included
    int shift;       // 0 to 6
};

// sums[c] += the stored bytes of channel c of all pixels.
struct SumRun {
    const uint8_t* in;
    size_t in_stride;
    size_t pixels;
    int channels;
    int32_t* sums;
};

struct Kernels {
    const char* name;  // as EFFNET_EDGE_ISA and `effnet-edge device` spell it
    bool signed_maps;
    bool fixed_point;   // kNarrow, kWide and kInterpolated; otherwise kFloat and kExact
    bool reads_stages;  // packed weights point at their stage, which must stay
    int panel;          // channels, a multiple of 16

    size_t (*pointwise_bytes)(const Stage&);  // of the packed form
    void (*pointwise_pack)(const Stage&, void* packed);
    void (*pointwise)(const void* packed, const PointwiseRun&);

    size_t (*depthwise_bytes)(const Stage&);
    void (*depthwise_pack)(const Stage&, void* packed);
    void (*depthwise)(const void* packed, const DepthwiseRun&);

    size_t (*classifier_bytes)(const Classifier&);
    void (*classifier_pack)(const Classifier&, void* packed);
    // features [depth], stored; logits of classes first_class to last_class - 1 are written to
    // logits[class]; first_class is a multiple of 16.
    void (*classify)(const void* packed, const uint8_t* features, int first_class, int last_class,
                     float* logits);

    void (*gate)(const GateRun&);
    void (*add)(const AddRun&);
    void (*sum)(const SumRun&);
};

}  // namespace effnet_edge
