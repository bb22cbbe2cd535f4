// Whole parts (stem, MBConv, head) with random shapes and numbers, on an instruction set and some
// threads, against the scalar reference on one thread: bit for bit.
//
//   part_fuzz [--isa NAME] [--cases N] [--seed S]
#include <cmath>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "../src/packed.h"
#include "../src/part.h"
#include "../src/scalar/scalar.h"
#include "../src/threads.h"
#include "../src/unsupported.h"
#include "guarded.h"
#include "options.h"

namespace effnet_edge {
namespace {

double real_between(Random& random, double low, double high) {
    return std::uniform_real_distribution<double>(low, high)(random);
}

ee_quantization random_quantization(Random& random, double range) {
    return {static_cast<float>(range / 255 * real_between(random, 0.7, 1.4)),
            between(random, 0, 9) ? between(random, 0, 160) : between(random, 0, 255)};
}

// A convolution and the arrays that it points at.
struct RandomConv {
    std::vector<int8_t> weight;
    std::vector<float> scale;
    std::vector<int32_t> bias;
    std::vector<uint8_t> factor;
    std::unique_ptr<ee_silu> silu;
    ee_conv conv{};

    // `input_range`: the spread of the real values that are read. `activation`: 0 none, 1 SiLU, 2
    // SiLU with factors.
    RandomConv(Random& random, int in, int out, int kernel, int stride, ee_quantization input,
               int activation) {
        const int inputs = in * kernel * kernel;
        weight.resize(static_cast<size_t>(out) * inputs);
        for (int8_t& w : weight) w = static_cast<int8_t>(between(random, -127, 127));
        const double sums = 73 * 73 * std::sqrt(static_cast<double>(inputs));
        // Some channels are nearly dead, some have the largest weights there are.
        for (int c = 0; c < out; ++c) {
            const int kind = between(random, 0, 19);
            scale.push_back(static_cast<float>(real_between(random, 0.4, 2) / (sums * input.scale) *
                                               (kind == 0   ? 1e-6
                                                : kind == 1 ? 0.05
                                                            : 1)));
            bias.push_back(static_cast<int32_t>(real_between(random, -0.5, 0.5) * sums));
            if (kind == 2) {
                std::memset(&weight[static_cast<size_t>(c) * inputs], 127, inputs);
            }
        }
        conv.in_channels = in;
        conv.out_channels = out;
        conv.kernel = kernel;
        conv.stride = stride;
        conv.weight = weight.data();
        conv.weight_scale = scale.data();
        conv.bias = bias.data();
        conv.output = random_quantization(random, 6);
        if (activation == 0) return;
        silu = std::make_unique<ee_silu>();
        silu->output = random_quantization(random, 5);
        if (activation == 2) {
            for (int c = 0; c < out; ++c) factor.push_back(static_cast<uint8_t>(random()));
            silu->factor = factor.data();
            silu->factor_quantization = {static_cast<float>(real_between(random, 0.01, 0.1)), 0};
            silu->argument = random_quantization(random, 16);
        }
        conv.silu = silu.get();
    }

    void pad(Random& random) {
        const int most = conv.kernel / 2;
        conv.pad_top = between(random, std::max(most - 1, 0), most);
        conv.pad_left = between(random, std::max(most - 1, 0), most);
        conv.pad_bottom = between(random, most, std::min(most + 1, conv.kernel - 1));
        conv.pad_right = between(random, most, std::min(most + 1, conv.kernel - 1));
        if (conv.kernel == 1) conv.pad_bottom = conv.pad_right = 0;
    }
};

struct Map {
    int height, width, channels;
    std::string text() const {
        return std::to_string(height) + " x " + std::to_string(width) + " x " +
               std::to_string(channels);
    }
};

std::vector<uint8_t> run(const ee_part& part, const Map& map, const uint8_t* input,
                         const ee_scheduler* scheduler) {
    const ee_part::Shape shape = part.output(map.height, map.width);
    const size_t bytes = static_cast<size_t>(shape.height) * shape.width * shape.channels *
                         static_cast<size_t>(part.value_bytes());
    const int threads = scheduler == nullptr ? 1 : scheduler->threads;
    const size_t scratch_bytes = part.scratch(map.height, map.width, threads, false);
    const Memory scratch = aligned_memory(scratch_bytes);
    // What is left from other runs must not matter.
    std::memset(scratch.get(), 0xA5, scratch_bytes);
    Guarded output(bytes, 4);
    part.run({input, map.height, map.width, output.data(), scratch.get(), scheduler, false, false});
    return std::vector<uint8_t>(output.data(), output.data() + bytes);
}

// Makes the part for both, runs it on the same map, compares.
template <class Make>
bool same(const Kernels& kernels, Random& random, const char* what, const Map& map,
          const Make& make) {
    const Kernels& reference = kernels.signed_maps ? kScalarFixed : kScalar;
    std::unique_ptr<ee_part> part, expected_part;
    try {
        expected_part = make(reference);
    } catch (const Unsupported&) {
        return true;  // random numbers beyond what kernels hold; rare
    }
    part = make(kernels);
    Guarded input(static_cast<size_t>(map.height) * map.width * map.channels);
    input.fill(random);
    ee_threads threads(between(random, 1, 3));
    const std::vector<uint8_t> expected = run(*expected_part, map, input.data(), nullptr);
    const std::vector<uint8_t> got = run(*part, map, input.data(), &threads.scheduler());
    if (got == expected) return true;
    size_t at = 0;
    while (got[at] == expected[at]) ++at;
    std::printf("%s differs at byte %zu of %zu: %d, not %d, for a map of %s, %d threads\n", what,
                at, got.size(), got[at], expected[at], map.text().c_str(),
                threads.scheduler().threads);
    return false;
}

bool mbconv_case(Random& random, const Kernels& kernels) {
    const bool family = between(random, 0, 3) > 0;  // shapes as in B0 to B7, or any
    const int in = family ? 8 * between(random, 2, 12) : between(random, 1, 40);
    const bool expanded = between(random, 0, 3) > 0;
    const int wide = !expanded ? in : family ? in * 6 : between(random, 1, 150);
    const int kernel = between(random, 0, 1) ? 3 : 5, stride = between(random, 0, 2) ? 1 : 2;
    const bool residual = stride == 1 && between(random, 0, 1) == 1;
    const int out = residual ? in : family ? 8 * between(random, 2, 12) : between(random, 1, 70);
    const Map map{between(random, kernel, 30), between(random, kernel, 30), in};
    const auto activation = [&] { return between(random, 0, 2); };

    const ee_quantization input = random_quantization(random, 4);
    ee_mbconv block{};
    block.input = input;
    RandomConv expand(random, in, wide, 1, 1, input, activation());
    ee_quantization rows = input;
    if (expanded) {
        block.expand = &expand.conv;
        rows = expand.silu ? expand.silu->output : expand.conv.output;
    }
    RandomConv depthwise(random, 1, wide, kernel, stride, rows, activation());
    depthwise.pad(random);
    if (residual) {
        depthwise.conv.pad_top = depthwise.conv.pad_bottom = kernel / 2;
        depthwise.conv.pad_left = depthwise.conv.pad_right = kernel / 2;
    }
    block.depthwise = depthwise.conv;
    ee_quantization gated = depthwise.silu ? depthwise.silu->output : depthwise.conv.output;
    ee_squeeze_excite excite{};
    const int squeezed = between(random, 1, 20);
    excite.pool = random_quantization(random, 4);
    RandomConv reduce(random, wide, squeezed, 1, 1, excite.pool, activation());
    excite.reduce = reduce.conv;
    RandomConv open(random, squeezed, wide, 1, 1,
                    reduce.silu ? reduce.silu->output : reduce.conv.output, 0);
    excite.expand = open.conv;
    excite.output = random_quantization(random, 4);
    if (between(random, 0, 3) > 0) {
        block.squeeze_excite = &excite;
        gated = excite.output;
    }
    RandomConv project(random, wide, out, 1, 1, gated, 0);
    block.project = project.conv;
    const ee_quantization sum = random_quantization(random, 8);
    if (residual) block.residual = &sum;
    return same(kernels, random, "MBConv", map,
                [&](const Kernels& table) { return make_mbconv(table, block); });
}

bool stem_case(Random& random, const Kernels& kernels) {
    const Map map{between(random, 5, 60), between(random, 5, 60), 3};
    ee_stem stem{};
    stem.input = {1, between(random, 0, 255)};
    RandomConv conv(random, 3,
                    between(random, 0, 2) ? 8 * between(random, 4, 8) : between(random, 1, 70),
                    between(random, 0, 7) ? 3 : 5, between(random, 0, 3) ? 2 : 1, stem.input,
                    between(random, 0, 2));
    conv.pad(random);
    stem.conv = conv.conv;
    return same(kernels, random, "stem", map,
                [&](const Kernels& table) { return make_stem(table, stem); });
}

bool head_case(Random& random, const Kernels& kernels) {
    const int in = between(random, 0, 2) ? 8 * between(random, 1, 40) : between(random, 1, 100);
    const Map map{between(random, 1, 20), between(random, 1, 20), in};
    ee_head head{};
    head.input = random_quantization(random, 4);
    RandomConv conv(random, in, between(random, 1, 300), 1, 1, head.input, between(random, 0, 2));
    head.conv = conv.conv;
    head.features = random_quantization(random, 4);
    RandomConv classifier(random, conv.conv.out_channels, between(random, 1, 150), 1, 1,
                          head.features, 0);
    head.classes = classifier.conv.out_channels;
    head.weight = classifier.conv.weight;
    head.weight_scale = classifier.conv.weight_scale;
    head.bias = classifier.conv.bias;
    return same(kernels, random, "head", map,
                [&](const Kernels& table) { return make_head(table, head); });
}

bool fuzz(const Kernels& kernels, int cases, unsigned seed) {
    for (int i = 0; i < cases; ++i) {
        Random random(seed + static_cast<unsigned>(i));
        if (!mbconv_case(random, kernels) ||
            (i % 4 == 0 && (!stem_case(random, kernels) || !head_case(random, kernels)))) {
            std::printf("%s: repeat with --isa %s --cases 1 --seed %u\n", kernels.name,
                        kernels.name, seed + static_cast<unsigned>(i));
            return false;
        }
    }
    std::printf("%s: %d blocks, and a quarter as many stems and heads, all equal\n", kernels.name,
                cases);
    return true;
}

}  // namespace
}  // namespace effnet_edge

int main(int argc, char** argv) {
    return effnet_edge::fuzz_instruction_sets(argc, argv, effnet_edge::fuzz);
}
