// The constants with which sums become bytes, as the kernels with dot products keep them.
#pragma once

#include <cstring>

#include "../stage.h"
#include "dot_unrolled.h"

namespace effnet_edge {

// What an epilogue has to do, the same for all channels of a stage.
struct DotEpilogue {
    int shift;     // kNarrow: 1 to 15; kWide: 0
    int lookup;    // kInterpolated: slope_shift, plus 8 with a correction; without a lookup: 0
    bool product;  // value * sigmoid(argument)
    int16_t argument_zero_point, zero_point;
    uint8_t base[32], slope[32], correction[32];
    // In wrapping 8 bits, slope * byte + offset of a piece is slope * (byte % 8 - 4).
    uint8_t offset[32];
    uint8_t correction_first;

    EFFNET_EDGE_INLINE explicit DotEpilogue(const Stage& stage)
        : shift(stage.requantizer.kind == Requantization::kNarrow ? stage.requantizer.shift : 0),
          lookup(stage.activation.kind == Lookup::kNone ? 0 : stage.activation.slope_shift),
          product(stage.activation.product),
          argument_zero_point(static_cast<int16_t>(stage.activation.argument_zero_point)),
          zero_point(static_cast<int16_t>(stage.activation.zero_point)),
          correction_first(0) {
        if (lookup == 0) return;
        const Activation& activation = stage.activation;
        std::memcpy(base, activation.base.data(), sizeof base);
        std::memcpy(slope, activation.slope.data(), sizeof slope);
        for (int i = 0; i < 32; ++i) {
            offset[i] = static_cast<uint8_t>(-activation.slope[i] * (8 * i + 4));
        }
        if (activation.correction.empty()) return;
        lookup += 8;
        std::memcpy(correction, activation.correction.data(), sizeof correction);
        correction_first = static_cast<uint8_t>(activation.correction_first);
    }
};

// What 16 channels need.
struct DotConstants {
    union Multiplier {
        int16_t narrow[16];
        int32_t wide[16];

        EFFNET_EDGE_INLINE void set(const DotEpilogue& epilogue, int i, int32_t value) {
            if (epilogue.shift == 0) {
                wide[i] = value;
            } else {
                narrow[i] = static_cast<int16_t>(value);
            }
        }
    };
    int32_t bias[16];
    Multiplier multiplier, argument;

    // Those of channels `first` to `first + 15`, zero beyond the stage's last.
    EFFNET_EDGE_INLINE DotConstants(const Stage& stage, const DotEpilogue& epilogue, int first) {
        std::memset(static_cast<void*>(this), 0, sizeof *this);
        for (int i = 0; i < 16 && first + i < stage.channels; ++i) {
            bias[i] = stage.requantizer.bias[first + i];
            multiplier.set(epilogue, i, stage.requantizer.multiplier[first + i]);
            if (!epilogue.product) continue;
            argument.set(epilogue, i, stage.activation.argument_multiplier[first + i]);
        }
    }
};

}  // namespace effnet_edge
