// EfficientNet-B0 at 224 x 224 with random weights, run once inside the markers: for count.py.
//
//   b0_cost [PART]     0 is the stem, 1 to 16 are the blocks, 17 is the head; all if not given
//
// What an int8 kernel costs depends on shapes, not on values. Shapes: Tan & Le 2019, table 1.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <utility>
#include <vector>

#include "effnet_edge_kernels.h"
#include "markers.h"

namespace {

constexpr int kSize = 224;
constexpr int kClasses = 1000;
constexpr ee_quantization kMap = {0.02f, 128};
constexpr ee_quantization kSilu = {0.02f, 14};
constexpr ee_quantization kGate = {0.1f, 128};

struct Stage {
    int expansion, kernel, stride, channels, repeats;
};
constexpr Stage kStages[] = {{1, 3, 1, 16, 1},  {6, 3, 2, 24, 2},  {6, 5, 2, 40, 2},
                             {6, 3, 2, 80, 3},  {6, 5, 1, 112, 3}, {6, 5, 2, 192, 4},
                             {6, 3, 1, 320, 1}};

std::mt19937 random_numbers(1);

void check(int failed) {
    if (failed == 0) return;
    std::fprintf(stderr, "%s\n", ee_error());
    std::exit(1);
}

// A convolution and the memory that its description points to.
struct Conv {
    std::vector<int8_t> weight;
    std::vector<float> scale;
    std::vector<int32_t> bias;
    ee_silu silu{};
    ee_conv conv{};

    Conv(int in, int out, int kernel, int stride, bool with_silu, ee_quantization output = kMap) {
        const size_t taps = static_cast<size_t>(in) * kernel * kernel;
        weight.resize(taps * out);
        for (int8_t& w : weight) w = static_cast<int8_t>(random_numbers() % 255 - 127);
        // Outputs about as wide as the inputs: weights of variance 1 / taps.
        scale.assign(out, 1.0f / (73.0f * std::sqrt(static_cast<float>(taps))));
        bias.resize(out);
        for (int32_t& b : bias) b = static_cast<int32_t>(random_numbers() % 2001) - 1000;
        silu = {kSilu, nullptr, {}, output};
        const int pad = (kernel - 1) / 2;
        conv = {in, out, kernel, stride, pad, pad, pad, pad, weight.data(), scale.data(),
                bias.data(), output, with_silu ? &silu : nullptr};
    }
    Conv(const Conv&) = delete;
    Conv& operator=(const Conv&) = delete;
};

std::vector<ee_part*> parts() {
    std::vector<ee_part*> made;
    Conv stem(3, 32, 3, 2, true);
    const ee_stem stem_part = {kMap, stem.conv};
    made.push_back(ee_make_stem(&stem_part));
    int in = 32;
    ee_quantization input = kSilu;
    for (const Stage& stage : kStages) {
        for (int repeat = 0; repeat < stage.repeats; ++repeat) {
            const int stride = repeat == 0 ? stage.stride : 1;
            const int middle = in * stage.expansion;
            const int squeezed = in / 4;
            Conv expand(in, middle, 1, 1, true);
            Conv depthwise(1, middle, stage.kernel, stride, true);
            Conv reduce(middle, squeezed, 1, 1, true);
            Conv gate(squeezed, middle, 1, 1, false, kGate);
            Conv project(middle, stage.channels, 1, 1, false);
            const ee_squeeze_excite squeeze_excite = {kSilu, reduce.conv, gate.conv, kSilu};
            ee_mbconv block = {};
            block.input = input;
            block.expand = stage.expansion == 1 ? nullptr : &expand.conv;
            block.depthwise = depthwise.conv;
            block.squeeze_excite = &squeeze_excite;
            block.project = project.conv;
            block.residual = repeat == 0 ? nullptr : &kMap;
            made.push_back(ee_make_mbconv(&block));
            in = stage.channels;
            input = kMap;
        }
    }
    Conv conv(in, 1280, 1, 1, true);
    Conv classifier(1280, kClasses, 1, 1, false);
    const ee_head head = {kMap, conv.conv, kSilu, kClasses, classifier.weight.data(),
                          classifier.scale.data(), classifier.bias.data()};
    made.push_back(ee_make_head(&head));
    for (const ee_part* part : made) check(part == nullptr);
    return made;
}

// A part with the memory of its run.
struct Step {
    const ee_part* part;
    int32_t height, width;
    std::vector<uint8_t> input, output, scratch;

    void run() {
        const uintptr_t start = reinterpret_cast<uintptr_t>(scratch.data());
        uint8_t* aligned = scratch.data() + (64 - start % 64) % 64;
        check(ee_run_part(part, input.data(), height, width, output.data(), aligned, nullptr));
    }
};

std::vector<Step> steps() {
    std::vector<Step> made;
    int32_t shape[3] = {kSize, kSize, 3};
    std::vector<uint8_t> map(static_cast<size_t>(kSize) * kSize * 3);
    for (uint8_t& pixel : map) pixel = static_cast<uint8_t>(random_numbers());
    for (const ee_part* part : parts()) {
        int32_t next[3];
        check(ee_part_output(part, shape[0], shape[1], next));
        std::vector<uint8_t> output(sizeof(float) * next[0] * next[1] * next[2]);
        std::vector<uint8_t> scratch(ee_part_scratch(part, shape[0], shape[1], 1) + 64);
        made.push_back({part, shape[0], shape[1], std::move(map), std::move(output),
                        std::move(scratch)});
        made.back().run();  // the warm-up
        map = made.back().output;
        std::copy(next, next + 3, shape);
    }
    return made;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc > 1) {
        std::vector<Step> network = steps();
        Step& step = network.at(static_cast<size_t>(std::atoi(argv[1])));
        effnet_edge_count_begin();
        step.run();
        effnet_edge_count_end();
    } else {
        const std::vector<ee_part*> made = parts();
        ee_network* network =
            ee_make_network(made.data(), static_cast<int32_t>(made.size()), kSize, kSize, 1);
        check(network == nullptr);
        std::vector<uint8_t> image(static_cast<size_t>(kSize) * kSize * 3);
        for (uint8_t& pixel : image) pixel = static_cast<uint8_t>(random_numbers());
        std::vector<float> logits(kClasses);
        check(ee_run_network(network, image.data(), logits.data(), nullptr));  // the warm-up
        effnet_edge_count_begin();
        check(ee_run_network(network, image.data(), logits.data(), nullptr));
        effnet_edge_count_end();
        ee_free_network(network);
    }
    std::printf("%s\n", ee_isa());
    return 0;
}
