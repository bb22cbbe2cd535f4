// A part of a network, ready to run.
#pragma once

#include <memory>

#include "effnet_edge_kernels.h"
#include "kernel.h"

// Maps between parts are uint8; inside a network they are "stored" as the kernels like them.
struct ee_part {
    virtual ~ee_part() = default;

    struct Shape {
        int height, width, channels;
    };

    // Bytes of one value of the output: 1, or 4 for logits.
    virtual int value_bytes() const { return 1; }
    virtual int in_channels() const = 0;
    virtual Shape output(int height, int width) const = 0;
    virtual size_t scratch(int height, int width, int threads, bool stored_input) const = 0;

    struct Run {
        const uint8_t* input;
        int height, width;
        void* output;
        void* scratch;
        const ee_scheduler* scheduler;
        bool stored_input;   // else uint8
        bool stored_output;  // else uint8
    };
    virtual void run(const Run& run) const = 0;
};

namespace effnet_edge {

std::unique_ptr<ee_part> make_stem(const Kernels& kernels, const ee_stem& stem);
std::unique_ptr<ee_part> make_mbconv(const Kernels& kernels, const ee_mbconv& block);
std::unique_ptr<ee_part> make_head(const Kernels& kernels, const ee_head& head);
std::unique_ptr<ee_part> make_pixels(const Kernels& kernels, const float* offset,
                                     ee_quantization output);

}  // namespace effnet_edge
