// Pixels less an offset per colour, quantized: a table for each colour.
#include <array>
#include <cmath>

#include "part.h"
#include "scheduling.h"
#include "stage_maker.h"

namespace effnet_edge {
namespace {

constexpr int kColours = 3;

class Pixels final : public ee_part {
  public:
    Pixels(const Kernels& kernels, const float* offset, ee_quantization output) {
        check_quantization(output, "the pixels' quantization");
        for (int colour = 0; colour < kColours; ++colour) {
            for (int byte = 0; byte < 256; ++byte) {
                // In float32, as the portable operators compute it.
                const float centred = static_cast<float>(byte) - offset[colour];
                const float steps =
                    std::nearbyintf(centred / output.scale) + static_cast<float>(output.zero_point);
                const float clamped = std::min(std::max(steps, 0.0F), 255.0F);
                tables_[colour][byte] = static_cast<uint8_t>(clamped);
                stored_tables_[colour][byte] =
                    static_cast<uint8_t>(tables_[colour][byte] ^ (kernels.signed_maps ? 0x80 : 0));
            }
        }
    }

    int in_channels() const override { return kColours; }
    Shape output(int height, int width) const override { return {height, width, kColours}; }
    size_t scratch(int, int, int, bool) const override { return 0; }
    void run(const Run& run) const override {
        const size_t row_bytes = static_cast<size_t>(run.width) * kColours;
        const auto& tables = run.stored_output ? stored_tables_ : tables_;
        run_tasks(run.scheduler, run.height, [&](int, int row) {
            look_up(tables, run.input + row * row_bytes,
                    static_cast<uint8_t*>(run.output) + row * row_bytes, run.width);
        });
    }

  private:
    using Tables = std::array<std::array<uint8_t, 256>, kColours>;

    static void look_up(const Tables& tables, const uint8_t* in, uint8_t* __restrict out,
                        int pixels) {
        const uint8_t *red = tables[0].data(), *green = tables[1].data(), *blue = tables[2].data();
        for (int x = 0; x < pixels; ++x, in += kColours, out += kColours) {
            out[0] = red[in[0]];
            out[1] = green[in[1]];
            out[2] = blue[in[2]];
        }
    }

    Tables tables_{}, stored_tables_{};  // uint8, and as stored
};

}  // namespace

std::unique_ptr<ee_part> make_pixels(const Kernels& kernels, const float* offset,
                                     ee_quantization output) {
    return std::make_unique<Pixels>(kernels, offset, output);
}

}  // namespace effnet_edge
