#include "activation.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "arithmetic.h"

namespace effnet_edge {
namespace {

constexpr int kPieces = 32;
constexpr int kPieceSteps = 8;
constexpr int kCorrected = 32;
constexpr int kLeastShift = 3;
constexpr int kMostShift = 6;
constexpr int kLargestSlope = 31;  // times -4..3 it must fit eight bits

// Real-valued steps of a lookup's result for each byte, and how much an error there counts.
struct Curve {
    std::array<double, 256> steps{};
    std::array<double, 256> weights{};
};

double real(ee_quantization quantization, double integer) {
    return static_cast<double>(quantization.scale) * (integer - quantization.zero_point);
}

uint8_t rounded_byte(double steps) {
    return static_cast<uint8_t>(std::nearbyint(std::min(std::max(steps, 0.0), 255.0)));
}

// The sigmoid as the quantized network has it, 0 to 255/256.
double stepped_sigmoid(double x) {
    return std::min(std::nearbyint(256 / (1 + std::exp(-x))), 255.0) / 256;
}

// Half of the activations within one or two of zero, half in an exponential tail of some steps: a
// mixture that fits what trained networks show.
double weight_at(double x, double scale, double steps_from_zero) {
    constexpr double kDeviation = 1.5, kTailSteps = 15;
    const double z = (x + 0.5) / kDeviation;
    const double near = std::exp(-0.5 * z * z) * scale / (kDeviation * 2.5066);
    const double tail = std::exp(-std::fabs(steps_from_zero) / kTailSteps) / (2 * kTailSteps);
    return near + tail + 1e-5;
}

Curve silu_curve(const ee_conv& conv) {
    Curve curve;
    for (int byte = 0; byte < 256; ++byte) {
        const double u = real(conv.output, byte);
        curve.steps[byte] =
            u * stepped_sigmoid(u) / conv.silu->output.scale + conv.silu->output.zero_point;
        curve.weights[byte] = weight_at(u, conv.output.scale, byte - conv.output.zero_point);
    }
    return curve;
}

Curve sigmoid_curve(ee_quantization argument) {
    Curve curve;
    for (int byte = 0; byte < 256; ++byte) {
        const double x = real(argument, byte);
        curve.steps[byte] = std::min(256 / (1 + std::exp(-x)), 255.0);
        curve.weights[byte] = weight_at(x, argument.scale, byte - argument.zero_point);
    }
    return curve;
}

// One of the pieces of an interpolated table, fitted to least squares.
struct Piece {
    int base, slope;
    double error;
};

Piece best_piece(const double* steps, const double* weights, int shift) {
    Piece best{0, 0, std::numeric_limits<double>::infinity()};
    for (int slope = -kLargestSlope; slope <= kLargestSlope; ++slope) {
        std::array<double, kPieceSteps> rise{};
        double mean = 0, total = 0, least = 0, most = 0;
        for (int i = 0; i < kPieceSteps; ++i) {
            rise[i] = (slope * (i - kPieceSteps / 2) + (1 << (shift - 1))) >> shift;
            mean += weights[i] * (steps[i] - rise[i]);
            total += weights[i];
            least = std::min(least, rise[i]);
            most = std::max(most, rise[i]);
        }
        // Eight bits don't saturate, they wrap: the whole piece has to fit.
        const double base = std::min(std::max(std::nearbyint(mean / total), -least), 255 - most);
        double error = 0;
        for (int i = 0; i < kPieceSteps; ++i) {
            const double off = base + rise[i] - steps[i];
            error += weights[i] * off * off;
        }
        if (error < best.error) best = {static_cast<int>(base), slope, error};
    }
    return best;
}

void interpolate_curve(const Curve& curve, bool signed_result, Activation& activation) {
    std::array<double, 256> steps{};
    std::transform(curve.steps.begin(), curve.steps.end(), steps.begin(),
                   [](double value) { return std::min(std::max(value, 0.0), 255.0); });
    double least_error = std::numeric_limits<double>::infinity();
    std::array<Piece, kPieces> best{};
    for (int shift = kLeastShift; shift <= kMostShift; ++shift) {
        std::array<Piece, kPieces> pieces{};
        double error = 0;
        for (int i = 0; i < kPieces; ++i) {
            const int first = i * kPieceSteps;
            pieces[i] = best_piece(&steps[first], &curve.weights[first], shift);
            error += pieces[i].error;
        }
        if (error < least_error) {
            least_error = error;
            best = pieces;
            activation.slope_shift = shift;
        }
    }
    activation.kind = Lookup::kInterpolated;
    activation.table.clear();
    for (const Piece& piece : best) {
        activation.base.push_back(static_cast<int8_t>(piece.base ^ (signed_result ? 0x80 : 0)));
        activation.slope.push_back(static_cast<int8_t>(piece.slope));
        for (int i = 0; i < kPieceSteps; ++i) {
            activation.table.push_back(interpolate(activation.base.back(), activation.slope.back(),
                                                   activation.slope_shift,
                                                   static_cast<uint8_t>(i)));
        }
    }
}

// Makes the table exact for the 32 bytes where that helps most.
void correct_table(const Curve& curve, const ByteTable& exact, Activation& activation) {
    const uint8_t flip = 0x80;
    std::array<double, 256> gain{};
    for (int byte = 0; byte < 256; ++byte) {
        const double off = (activation.table[byte] ^ flip) - exact[byte];
        gain[byte] = curve.weights[byte] * off * off;
    }
    double best = -1;
    for (int first = 0; first + kCorrected <= 256; ++first) {
        const double total = std::accumulate(&gain[first], &gain[first] + kCorrected, 0.0);
        if (total > best) {
            best = total;
            activation.correction_first = first;
        }
    }
    for (int i = 0; i < kCorrected; ++i) {
        uint8_t& entry = activation.table[activation.correction_first + i];
        const uint8_t wanted = exact[activation.correction_first + i] ^ flip;
        activation.correction.push_back(static_cast<int8_t>(wanted - entry));
        entry = wanted;
    }
}

void exact_table(const ByteTable& table, bool signed_result, Activation& activation) {
    activation.kind = Lookup::kExact;
    for (const uint8_t byte : table) {
        activation.table.push_back(byte ^ (signed_result ? 0x80 : 0));
    }
}

}  // namespace

ByteTable silu_table(const ee_conv& conv, int channel) {
    const ee_silu& silu = *conv.silu;
    ByteTable table{};
    for (int byte = 0; byte < 256; ++byte) {
        const double u = real(conv.output, byte);
        double argument = u;
        if (silu.factor != nullptr) {
            const double steps = (byte - conv.output.zero_point) * argument_ratio(conv, channel);
            argument =
                real(silu.argument, rounded_byte(std::nearbyint(steps) + silu.argument.zero_point));
        }
        table[byte] = rounded_byte(u * stepped_sigmoid(argument) / silu.output.scale +
                                   silu.output.zero_point);
    }
    return table;
}

ByteTable sigmoid_table(ee_quantization argument) {
    ByteTable table{};
    for (int byte = 0; byte < 256; ++byte) {
        table[byte] = static_cast<uint8_t>(256 * stepped_sigmoid(real(argument, byte)));
    }
    return table;
}

double argument_ratio(const ee_conv& conv, int channel) {
    const double factor = real(conv.silu->factor_quantization, conv.silu->factor[channel]);
    return factor * conv.output.scale / conv.silu->argument.scale;
}

ee_quantization result_quantization(const ee_conv& conv) {
    return conv.silu == nullptr ? conv.output : conv.silu->output;
}

Activation make_activation(const Kernels& kernels, const ee_conv& conv) {
    Activation activation;
    if (conv.silu == nullptr) return activation;
    activation.product = conv.silu->factor != nullptr;
    const bool signed_result = kernels.signed_maps && !activation.product;
    if (activation.product) {
        activation.argument_zero_point = conv.silu->argument.zero_point;
        activation.zero_point = conv.silu->output.zero_point - (kernels.signed_maps ? 128 : 0);
    }
    if (kernels.fixed_point) {
        const Curve curve =
            activation.product ? sigmoid_curve(conv.silu->argument) : silu_curve(conv);
        interpolate_curve(curve, signed_result, activation);
        if (!activation.product) correct_table(curve, silu_table(conv), activation);
    } else {
        exact_table(activation.product ? sigmoid_table(conv.silu->argument) : silu_table(conv),
                    signed_result, activation);
    }
    return activation;
}

}  // namespace effnet_edge
