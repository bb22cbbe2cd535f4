// Maps as callers have them, and as kernels want them.
#pragma once

#include <cstddef>
#include <cstdint>

#include "part.h"
#include "scratch.h"

namespace effnet_edge {

// A copy of a part's input whose pixels have a multiple of 8 channels, stored as the kernels do.
struct MapConversion {
    static bool needed(const Kernels& kernels, int channels, bool stored_input) {
        return channels % 8 != 0 || (kernels.signed_maps && !stored_input);
    }
    // Bytes from pixel to pixel, in the copy and in maps that need none.
    static size_t stride(int channels) { return round_up(channels, 8); }
    static size_t bytes(int height, int width, int channels) {
        return static_cast<size_t>(height) * width * stride(channels);
    }
    static void run(const Kernels& kernels, const ee_part::Run& part, int channels, uint8_t* to);
};

// uint8 to int8 less 128, and back. `to` may be `from`.
void flip_signs(const uint8_t* from, uint8_t* to, size_t bytes);

}  // namespace effnet_edge
