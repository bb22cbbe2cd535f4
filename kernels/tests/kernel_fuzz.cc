// Every kernel of an instruction set against the scalar reference, bit for bit, on random stages.
//
//   kernel_fuzz [--isa NAME] [--cases N] [--seed S]
#include <cmath>
#include <cstdio>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "../src/arithmetic.h"
#include "../src/scalar/scalar.h"
#include "guarded.h"
#include "options.h"

namespace effnet_edge {
namespace {

bool same(const char* what, Guarded& got, Guarded& expected, const std::string& shape) {
    for (size_t i = 0; i < got.size(); ++i) {
        if (got.data()[i] != expected.data()[i]) {
            std::printf("%s differs at byte %zu: %d, not %d, with %s\n", what, i, got.data()[i],
                        expected.data()[i], shape.c_str());
            return false;
        }
    }
    return true;
}

Activation random_activation(Random& random, const Kernels& kernels) {
    Activation activation;
    if (between(random, 0, 3) == 0) return activation;
    activation.table.resize(256);
    if (!kernels.fixed_point) {
        activation.kind = Lookup::kExact;
        // Half of the time like SiLU: flat, a dip, then a line.
        const bool silu = between(random, 0, 1) == 1;
        const int zero = between(random, 0, 100);
        const double slope = between(random, 20, 150) / 100.0;
        for (int i = 0; i < 256; ++i) {
            const int line = 3 + static_cast<int>((i > zero ? i - zero : 0) * slope) -
                             (i > zero - 20 && i < zero ? 2 : 0);
            activation.table[i] = static_cast<uint8_t>(silu ? saturate(line, 0, 255) : random());
        }
        return activation;
    }
    activation.kind = Lookup::kInterpolated;
    activation.slope_shift = between(random, 3, 6);
    for (int i = 0; i < 32; ++i) {
        activation.base.push_back(static_cast<int8_t>(random()));
        activation.slope.push_back(static_cast<int8_t>(between(random, -31, 31)));
    }
    for (int i = 0; i < 256; ++i) {
        activation.table[i] = interpolate(activation.base[i / 8], activation.slope[i / 8],
                                          activation.slope_shift, static_cast<uint8_t>(i));
    }
    if (between(random, 0, 1) == 0) return activation;
    activation.correction_first = between(random, 0, 224);
    for (int i = 0; i < 32; ++i) {
        activation.correction.push_back(static_cast<int8_t>(between(random, -5, 5)));
        activation.table[activation.correction_first + i] += activation.correction.back();
    }
    return activation;
}

// Makes the activation a product with the sigmoid of an argument of its own.
void make_product(Random& random, const Kernels& kernels, Stage& stage) {
    Activation& activation = stage.activation;
    activation.product = true;
    for (size_t i = 0; i < activation.correction.size(); ++i) {
        activation.table[activation.correction_first + i] -= activation.correction[i];
    }
    activation.correction.clear();
    activation.argument_zero_point = between(random, 0, 255);
    activation.zero_point = between(random, 0, 255) - (kernels.signed_maps ? 128 : 0);
    const Requantizer& requantizer = stage.requantizer;
    for (int c = 0; c < stage.channels; ++c) {
        const double factor = std::uniform_real_distribution<double>(0.1, 4)(random);
        if (kernels.fixed_point) {
            const double most = requantizer.kind == Requantization::kWide ? 2147483647.0 : 32767.0;
            activation.argument_multiplier.push_back(
                static_cast<int32_t>(std::min(requantizer.multiplier[c] * factor, most)));
        } else {
            activation.argument_scale.push_back(static_cast<float>(requantizer.scale[c] * factor));
        }
    }
}

// Constants with which most results are spread over 0..255 and some saturate.
Requantizer random_requantizer(Random& random, const Kernels& kernels, int channels, double sums) {
    Requantizer requantizer;
    const bool narrow = between(random, 0, 1) == 1;
    requantizer.kind = !kernels.fixed_point ? Requantization::kFloat
                       : narrow             ? Requantization::kNarrow
                                            : Requantization::kWide;
    requantizer.zero_point = between(random, 0, 255);
    const bool extreme = between(random, 0, 19) == 0;  // sums that saturate 16 bits and more
    for (int c = 0; c < channels; ++c) {
        const double scale =
            std::uniform_real_distribution<double>(20, 200)(random) / sums * (extreme ? 60 : 1);
        requantizer.scale.push_back(static_cast<float>(scale));
        requantizer.bias.push_back(static_cast<int32_t>(
            std::uniform_real_distribution<double>(-1, 1)(random) * sums * (extreme ? 40 : 1)));
    }
    if (requantizer.kind == Requantization::kNarrow) {
        requantizer.shift = 1;
        while (sums / (1 << requantizer.shift) > 30000 && requantizer.shift < 15) {
            ++requantizer.shift;
        }
        for (float scale : requantizer.scale) {
            const double multiplier = scale * 32768.0 * (1 << requantizer.shift);
            requantizer.multiplier.push_back(static_cast<int32_t>(std::min(multiplier, 32767.0)));
        }
    } else if (requantizer.kind == Requantization::kWide) {
        for (float scale : requantizer.scale) {
            requantizer.multiplier.push_back(
                static_cast<int32_t>(std::min(scale * 2147483648.0, 2147483647.0)));
        }
    }
    return requantizer;
}

Stage random_stage(Random& random, const Kernels& kernels, int channels, int depth, int taps,
                   int stride) {
    Stage stage;
    stage.channels = channels;
    stage.depth = depth;
    stage.taps = taps;
    stage.stride = stride;
    stage.signed_maps = kernels.signed_maps;
    const int inputs = taps ? taps : depth;
    const bool largest = between(random, 0, 9) == 0;
    stage.weight.resize(static_cast<size_t>(channels) * inputs);
    for (int8_t& weight : stage.weight) {
        weight =
            static_cast<int8_t>(largest ? (random() % 2 ? 127 : -127) : between(random, -127, 127));
    }
    const double sums = 70.0 * 128.0 * std::sqrt(static_cast<double>(inputs)) + 1;
    stage.requantizer = random_requantizer(random, kernels, channels, sums);
    stage.activation = random_activation(random, kernels);
    if (stage.activation.kind != Lookup::kNone && between(random, 0, 2) == 0) {
        make_product(random, kernels, stage);
    }
    return stage;
}

std::vector<uint8_t> aligned(size_t bytes) { return std::vector<uint8_t>(bytes + 128); }

void* align(std::vector<uint8_t>& memory) {
    return reinterpret_cast<void*>((reinterpret_cast<uintptr_t>(memory.data()) + 63) &
                                   ~uintptr_t{63});
}

std::string describe(const Stage& stage, int rows, int width) {
    char text[200];
    std::snprintf(text, sizeof text,
                  "channels %d depth %d taps %d stride %d rows %d width %d requantization %d shift "
                  "%d lookup %d product %d",
                  stage.channels, stage.depth, stage.taps, stage.stride, rows, width,
                  static_cast<int>(stage.requantizer.kind), stage.requantizer.shift,
                  static_cast<int>(stage.activation.kind), stage.activation.product);
    return text;
}

// The reference's panels may be narrower than those of `kernels`: all of its channels at once.
bool pointwise_case(Random& random, const Kernels& kernels, const Kernels&) {
    const int channels =
        between(random, 0, 3) ? 16 * between(random, 1, 12) : between(random, 1, 200);
    const int depth = 8 * between(random, 1, between(random, 0, 9) ? 20 : 150);
    Stage stage = random_stage(random, kernels, channels, depth, 0, 1);
    const int rows = between(random, 1, 3), width = between(random, 1, 40);
    const int panels = (channels + kernels.panel - 1) / kernels.panel;
    const int begin = between(random, 0, panels - 1), end = between(random, begin + 1, panels);
    const int first = begin * kernels.panel,
              count = std::min(end * kernels.panel, channels) - first;
    const size_t in_stride = depth + (between(random, 0, 1) ? between(random, 0, 70) : 0);
    const size_t out_stride = count + (between(random, 0, 1) ? between(random, 0, 70) : 0);
    const size_t out_row = out_stride * width + between(random, 0, 100);
    Guarded in((static_cast<size_t>(rows) * width - 1) * in_stride + depth);
    const size_t out_bytes = (rows - 1) * out_row + (width - 1) * out_stride + count;
    Guarded out(out_bytes), expected(out_bytes);
    in.fill(random);
    std::memset(out.data(), 0xA5, out_bytes);
    std::memset(expected.data(), 0xA5, out_bytes);
    auto packed = aligned(kernels.pointwise_bytes(stage));
    kernels.pointwise_pack(stage, align(packed));
    kernels.pointwise(align(packed), {in.data(), in_stride, out.data(), out_stride, out_row, rows,
                                      width, begin, end});
    const uint8_t* pixel = in.data();
    for (int r = 0; r < rows; ++r) {
        for (int x = 0; x < width; ++x, pixel += in_stride) {
            for (int c = first; c < first + count; ++c) {
                int32_t sum = 0;
                for (int k = 0; k < depth; ++k) {
                    sum += stage.weight[static_cast<size_t>(c) * depth + k] *
                           stored(pixel[k], stage.signed_maps);
                }
                expected.data()[r * out_row + x * out_stride + c - first] = finish(stage, c, sum);
            }
        }
    }
    return same("pointwise", out, expected, describe(stage, rows, width));
}

bool depthwise_case(Random& random, const Kernels& kernels, const Kernels&) {
    const int kernel = between(random, 0, 15) == 0 ? 7 : between(random, 0, 1) ? 3 : 5;
    const int stride = between(random, 0, 2) ? 1 : 2;
    const int channels = 16 * between(random, 1, 12);
    Stage stage = random_stage(random, kernels, channels, 0, kernel * kernel, stride);
    const int rows = between(random, 1, 6), width = between(random, 1, 30);
    const int panels = (channels + kernels.panel - 1) / kernels.panel;
    const int panel = between(random, 0, panels - 1);
    const int first = panel * kernels.panel, count = std::min(kernels.panel, channels - first);
    const size_t in_stride = count + 16 * between(random, 0, 2);
    const int in_rows = (rows - 1) * stride + kernel, in_width = (width - 1) * stride + kernel;
    const size_t row_bytes = in_width * in_stride + 64;
    Guarded in(in_rows * row_bytes);
    in.fill(random);
    std::vector<const uint8_t*> pointers;
    for (int r = 0; r < in_rows; ++r) pointers.push_back(in.data() + r * row_bytes);
    if (between(random, 0, 1)) pointers.front() = pointers.back();
    const size_t out_stride = count + 16 * between(random, 0, 2);
    const size_t out_row = out_stride * width + 16 * between(random, 0, 2);
    const size_t out_bytes = (rows - 1) * out_row + (width - 1) * out_stride + count;
    Guarded out(out_bytes), expected(out_bytes);
    std::memset(out.data(), 0xA5, out_bytes);
    std::memset(expected.data(), 0xA5, out_bytes);
    Guarded sums(count * sizeof(int32_t), 4), expected_sums(count * sizeof(int32_t), 4);
    sums.fill(random);
    std::memcpy(expected_sums.data(), sums.data(), sums.size());
    const bool with_sums = between(random, 0, 2) > 0;
    auto packed = aligned(kernels.depthwise_bytes(stage));
    kernels.depthwise_pack(stage, align(packed));
    kernels.depthwise(align(packed),
                      {pointers.data(), in_stride, out.data(), out_stride, out_row, rows, width,
                       panel, with_sums ? reinterpret_cast<int32_t*>(sums.data()) : nullptr});
    auto* totals = reinterpret_cast<int32_t*>(expected_sums.data());
    for (int r = 0; r < rows; ++r) {
        for (int x = 0; x < width; ++x) {
            for (int c = 0; c < count; ++c) {
                int32_t sum = 0;
                for (int t = 0; t < stage.taps; ++t) {
                    const uint8_t byte = pointers[r * stride + t / kernel]
                                                 [(x * stride + t % kernel) * in_stride + c];
                    sum += stage.weight[static_cast<size_t>(first + c) * stage.taps + t] *
                           stored(byte, stage.signed_maps);
                }
                const uint8_t result = finish(stage, first + c, sum);
                expected.data()[r * out_row + x * out_stride + c] = result;
                if (with_sums) totals[c] += stored(result, stage.signed_maps);
            }
        }
    }
    const std::string shape = describe(stage, rows, width);
    return same("depthwise", out, expected, shape) &&
           same("depthwise sums", sums, expected_sums, shape);
}

bool classify_case(Random& random, const Kernels& kernels, const Kernels& reference) {
    Classifier classifier;
    classifier.classes = between(random, 1, 100);
    classifier.depth = 8 * between(random, 1, 100);
    classifier.weight.resize(static_cast<size_t>(classifier.classes) * classifier.depth);
    for (int8_t& weight : classifier.weight)
        weight = static_cast<int8_t>(between(random, -127, 127));
    for (int c = 0; c < classifier.classes; ++c) {
        classifier.bias.push_back(between(random, -1000000, 1000000));
        classifier.scale.push_back(static_cast<float>(between(random, 1, 1000)) / 7e6f);
    }
    Guarded features(classifier.depth);
    features.fill(random);
    Guarded logits(classifier.classes * 4, 4), expected(classifier.classes * 4, 4);
    std::memset(logits.data(), 0xA5, logits.size());
    std::memset(expected.data(), 0xA5, expected.size());
    const int groups = (classifier.classes + 15) / 16;
    const int first = 16 * between(random, 0, groups - 1);
    const int last = between(random, first + 1, classifier.classes);
    auto packed = aligned(kernels.classifier_bytes(classifier));
    auto packed_reference = aligned(reference.classifier_bytes(classifier));
    kernels.classifier_pack(classifier, align(packed));
    reference.classifier_pack(classifier, align(packed_reference));
    kernels.classify(align(packed), features.data(), first, last,
                     reinterpret_cast<float*>(logits.data()));
    reference.classify(align(packed_reference), features.data(), first, last,
                       reinterpret_cast<float*>(expected.data()));
    return same("classify", logits, expected,
                "classes " + std::to_string(classifier.classes) + " depth " +
                    std::to_string(classifier.depth) + " from " + std::to_string(first) + " to " +
                    std::to_string(last));
}

bool elementwise_case(Random& random, const Kernels& kernels, const Kernels& reference) {
    const int channels = 16 * between(random, 1, 20);
    const size_t pixels = between(random, 1, 20);
    const int shift = between(random, 0, 6);
    Guarded in(pixels * channels), out(pixels * channels), expected(pixels * channels);
    in.fill(random);
    Guarded multipliers(channels * 2, 2), offsets(channels * 2, 2);
    auto* multiplier = reinterpret_cast<int16_t*>(multipliers.data());
    auto* offset = reinterpret_cast<int16_t*>(offsets.data());
    for (int c = 0; c < channels; ++c) {
        multiplier[c] = static_cast<int16_t>(between(random, 0, 32767));
        offset[c] = static_cast<int16_t>(between(random, -32768, 32767) >> between(random, 0, 8));
    }
    const std::string shape = "channels " + std::to_string(channels) + " pixels " +
                              std::to_string(pixels) + " shift " + std::to_string(shift);
    GateRun gate{in.data(), out.data(), pixels, channels, multiplier, offset, shift};
    kernels.gate(gate);
    gate.out = expected.data();
    reference.gate(gate);
    if (!same("gate", out, expected, shape)) return false;
    gate.out = in.data();  // in place
    kernels.gate(gate);
    if (!same("gate in place", in, expected, shape)) return false;

    const size_t bytes = between(random, 1, 700);
    Guarded inout(bytes), shortcut(bytes), sum(bytes);
    inout.fill(random);
    shortcut.fill(random);
    std::memcpy(sum.data(), inout.data(), bytes);
    AddRun add{inout.data(),  shortcut.data(), bytes, multiplier[0],
               multiplier[1], offset[0],       shift};
    kernels.add(add);
    add.inout = sum.data();
    reference.add(add);
    if (!same("add", inout, sum, "bytes " + std::to_string(bytes))) return false;

    const int counted = between(random, 1, channels);
    Guarded totals(counted * 4, 4), expected_totals(counted * 4, 4);
    totals.fill(random);
    std::memcpy(expected_totals.data(), totals.data(), totals.size());
    SumRun summing{in.data(), static_cast<size_t>(channels), pixels, counted,
                   reinterpret_cast<int32_t*>(totals.data())};
    kernels.sum(summing);
    summing.sums = reinterpret_cast<int32_t*>(expected_totals.data());
    reference.sum(summing);
    return same("sum", totals, expected_totals, shape);
}

using Case = bool (*)(Random&, const Kernels&, const Kernels&);

bool fuzz(const Kernels& kernels, int cases, unsigned seed) {
    const Kernels& reference = kernels.signed_maps ? kScalarFixed : kScalar;
    const Case all[] = {pointwise_case, depthwise_case, classify_case, elementwise_case};
    for (int i = 0; i < cases; ++i) {
        for (Case run : all) {
            Random random(seed + static_cast<unsigned>(i));
            if (!run(random, kernels, reference)) {
                std::printf("%s: repeat with --isa %s --cases 1 --seed %u\n", kernels.name,
                            kernels.name, seed + static_cast<unsigned>(i));
                return false;
            }
        }
    }
    std::printf("%s: %d cases of each kernel, all equal\n", kernels.name, cases);
    return true;
}

}  // namespace
}  // namespace effnet_edge

int main(int argc, char** argv) {
    return effnet_edge::fuzz_instruction_sets(argc, argv, effnet_edge::fuzz);
}
