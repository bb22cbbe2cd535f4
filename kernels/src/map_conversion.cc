#include "map_conversion.h"

#include <cstring>

#include "scheduling.h"

namespace effnet_edge {

void flip_signs(const uint8_t* from, uint8_t* to, size_t bytes) {
    for (size_t i = 0; i < bytes; ++i) to[i] = from[i] ^ 0x80;
}

void MapConversion::run(const Kernels& kernels, const ee_part::Run& part, int channels,
                        uint8_t* to) {
    const bool flip = kernels.signed_maps && !part.stored_input;
    const size_t wide = stride(channels), narrow = channels;
    run_tasks(part.scheduler, part.height, [&](int, int row) {
        const uint8_t* in = part.input + static_cast<size_t>(row) * part.width * narrow;
        uint8_t* out = to + static_cast<size_t>(row) * part.width * wide;
        if (wide == narrow) {
            flip_signs(in, out, part.width * narrow);
            return;
        }
        for (int x = 0; x < part.width; ++x, in += narrow, out += wide) {
            std::memcpy(out, in, narrow);
            if (flip) flip_signs(out, out, narrow);
            std::memset(out + narrow, 0, wide - narrow);
        }
    });
}

}  // namespace effnet_edge
