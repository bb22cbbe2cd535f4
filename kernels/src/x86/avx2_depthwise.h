// Depthwise convolutions, 16 channels of a row at a time.
//
// Columns are taken from left to right. Each is interleaved once and added to all outputs that it
// takes part in, which wait in registers; the oldest is then complete. What comes out are the sums
// of a piece of a row; requantization and activation follow over the piece.
#pragma once

#include "avx2_finish.h"

namespace effnet_edge {
namespace {

constexpr int kPiece = 64;  // outputs
constexpr int kLead = 4;    // most outputs that wait for columns
constexpr int kMostKernel = 15;

// Kernels other than 3 and 5, strides other than 1 and 2: one tap at a time.
constexpr bool has_columns(int taps, int stride) {
    return (taps == 9 || taps == 25) && (stride == 1 || stride == 2);
}

// A pair of vectors is one for each half of a group; their lanes multiply kTerms taps.
template <int kKernel>
void pack_columns(const Stage& stage, int group, Multiply::Weight* weight) {
    using Kind = Columns<kKernel, 1>;
    for (int pair = 0; pair < Kind::kVectors / 2; ++pair) {
        int taps[Multiply::kTerms];
        Kind::taps_of(pair, taps);
        for (int lane = 0; lane < kGroup; ++lane) {
            const int channel = group * kGroup + channel_of_lane(lane);
            for (int tap : taps) {
                *weight++ = channel < stage.channels && tap >= 0
                                ? stage.weight.data()[channel * stage.taps + tap]
                                : 0;
            }
        }
    }
}

void pack_taps(const Stage& stage, int group, int16_t* weight) {
    for (int tap = 0; tap < stage.taps; ++tap) {
        for (int lane = 0; lane < kGroup; ++lane) {
            const int channel = group * kGroup + channel_of_lane(lane);
            const bool exists = channel < stage.channels;
            *weight++ = exists ? stage.weight.data()[channel * stage.taps + tap] : 0;
            *weight++ = 0;
        }
    }
}

size_t depthwise_weight_bytes(const Stage& stage) {
    size_t vectors = 2 * static_cast<size_t>(stage.taps);
    if (has_columns(stage.taps, stage.stride)) {
        vectors = stage.taps == 9 ? Columns<3, 1>::kVectors : Columns<5, 1>::kVectors;
    }
    return (vectors * sizeof(__m256i) + 63) / 64 * 64;
}

size_t depthwise_bytes(const Stage& stage) {
    return packed_bytes(stage, depthwise_weight_bytes(stage));
}

void depthwise_pack(const Stage& stage, void* memory) {
    PackedStage& packed = pack_frame(stage, depthwise_weight_bytes(stage), memory);
    for (int group = 0; group < packed.groups; ++group) {
        uint8_t* weights = pack_constants(stage, group, channel_of_lane, packed);
        if (!has_columns(stage.taps, stage.stride)) {
            pack_taps(stage, group, reinterpret_cast<int16_t*>(weights));
        } else if (stage.taps == 9) {
            pack_columns<3>(stage, group, reinterpret_cast<Multiply::Weight*>(weights));
        } else {
            pack_columns<5>(stage, group, reinterpret_cast<Multiply::Weight*>(weights));
        }
    }
}

// A piece of a row: what it is computed from, and the sums of its outputs.
struct Piece {
    const uint8_t* const* rows;  // at the first column of the first output
    size_t stride;
    int outputs;
    alignas(64) Sums<kLead + kPiece, 2> sums;  // the first kLead are scratch
};

// From left to right over the columns that a piece reads.
template <int kKernel, int kStride>
struct Sweep {
    // Outputs that a column takes part in.
    static constexpr int kWaiting = (kKernel + kStride - 1) / kStride;
    static_assert(kWaiting - 1 <= kLead);

    const uint8_t* rows[kKernel];
    size_t stride;
    int last_column;
    const uint8_t* weights;
    const int32_t* bias;
    Sums<kWaiting, 2> sums;
    __m256i (*out)[2];

    [[gnu::always_inline]] inline Sweep(const PackedStage& packed, int group, Piece& piece)
        : stride(piece.stride),
          last_column((piece.outputs - 1) * kStride + kKernel - 1),
          weights(packed.weights(group)),
          bias(packed.constants(group).bias),
          out(piece.sums.of + kLead - kWaiting + 1) {
        for (int i = 0; i < kKernel; ++i) rows[i] = piece.rows[i];
        for (auto& sum : sums.of) sum[0] = sum[1] = _mm256_setzero_si256();
    }

    // Step t begins output t and completes output t - kWaiting + 1. Outputs t - kBegin down to
    // t - kEnd + 1 are wanted.
    template <int kBegin, int kEnd>
    [[gnu::always_inline]] inline void step(int t) {
#pragma GCC unroll 5
        for (int q = kWaiting - 1; q > 0; --q) {
            sums.of[q][0] = sums.of[q - 1][0];
            sums.of[q][1] = sums.of[q - 1][1];
        }
        sums.of[0][0] = load(bias);
        sums.of[0][1] = load(bias + 8);
        // More weights than registers are operands from memory. As compilers see it each step's are
        // others, or else they would be loaded ahead and kept on the stack.
        if (Columns<kKernel, kStride>::kVectors > 16) __asm__("" : "+r"(weights));
        Columns<kKernel, kStride>::template add<kBegin, kEnd>(rows, stride, t, last_column, weights,
                                                              sums.of);
        if (kEnd == kWaiting) {
            out[t][0] = sums.of[kWaiting - 1][0];
            out[t][1] = sums.of[kWaiting - 1][1];
        }
    }

    template <int kStep>
    [[gnu::always_inline]] inline void lead_in() {
        if constexpr (kStep < kWaiting - 1) {
            step<0, kStep + 1>(kStep);
            lead_in<kStep + 1>();
        }
    }

    template <int kStep>
    [[gnu::always_inline]] inline void lead_out(int outputs) {
        if constexpr (kStep < kWaiting) {
            step<kStep, kWaiting>(outputs - 1 + kStep);
            lead_out<kStep + 1>(outputs);
        }
    }

    static void run(const PackedStage& packed, int group, Piece& piece) {
        const int outputs = piece.outputs;
        Sweep sweep(packed, group, piece);
        if (outputs < kWaiting) {  // outputs that don't exist are completed too, and not used
            for (int t = 0; t < outputs + kWaiting - 1; ++t) sweep.template step<0, kWaiting>(t);
            return;
        }
        sweep.template lead_in<0>();
        for (int t = kWaiting - 1; t < outputs; ++t) sweep.template step<0, kWaiting>(t);
        sweep.template lead_out<1>(outputs);
    }
};

// Any kernel and stride, one tap at a time.
void run_taps(const PackedStage& packed, int group, Piece& piece) {
    const __m256i zero = _mm256_setzero_si256();
    for (int x = 0; x < piece.outputs; ++x) {
        const int32_t* bias = packed.constants(group).bias;
        __m256i low = load(bias), high = load(bias + 8);
        const uint8_t* weights = packed.weights(group);
        for (int i = 0; i < packed.kernel; ++i) {
            for (int j = 0; j < packed.kernel; ++j, weights += 64) {
                const int column = x * packed.stride + j;
                const __m256i input = load_words(piece.rows[i] + column * piece.stride);
                low = _mm256_add_epi32(
                    low, _mm256_madd_epi16(_mm256_unpacklo_epi16(input, zero), load(weights)));
                high = _mm256_add_epi32(high, _mm256_madd_epi16(_mm256_unpackhi_epi16(input, zero),
                                                                load(weights + 32)));
            }
        }
        piece.sums.of[kLead + x][0] = low;
        piece.sums.of[kLead + x][1] = high;
    }
}

void run_piece(const PackedStage& packed, int group, Piece& piece) {
    const int kernel = packed.kernel, stride = packed.stride;
    if (!has_columns(kernel * kernel, stride)) {
        run_taps(packed, group, piece);
    } else if (kernel == 3) {
        (stride == 1 ? Sweep<3, 1>::run : Sweep<3, 2>::run)(packed, group, piece);
    } else {
        (stride == 1 ? Sweep<5, 1>::run : Sweep<5, 2>::run)(packed, group, piece);
    }
}

// Sums of output bytes per channel: 16 bits in registers, 32 bits in memory.
class Totals {
  public:
    explicit Totals(int32_t* sums) : sums_(sums) {}

    // Two pixels.
    void add(__m256i bytes) {
        even_ = _mm256_add_epi16(even_, _mm256_and_si256(bytes, _mm256_set1_epi16(255)));
        odd_ = _mm256_add_epi16(odd_, _mm256_srli_epi16(bytes, 8));
    }

    // Before `count` calls of add.
    void make_room(int count) {
        constexpr int kMost = 65535 / 255;
        if (added_ + count > kMost) flush();
        added_ += count;
    }

    void flush() {
        added_ = 0;
        if (sums_ == nullptr) return;
        uint16_t even[kGroup], odd[kGroup];
        store(even, even_);
        store(odd, odd_);
        for (int c = 0; c < kGroup; c += 2) {
            sums_[c] += even[c / 2] + even[kGroup / 2 + c / 2];
            sums_[c + 1] += odd[c / 2] + odd[kGroup / 2 + c / 2];
        }
        even_ = odd_ = _mm256_setzero_si256();
    }

  private:
    int32_t* sums_;
    int added_ = 0;
    __m256i even_ = _mm256_setzero_si256(), odd_ = _mm256_setzero_si256();
};

// Bytes of a piece, to where they belong.
void finish_piece(const PackedStage& packed, int group, const Piece& piece, uint8_t* out,
                  size_t out_stride, Totals& totals) {
    constexpr int kPixels = 8;  // outputs behind the last are computed and not used
    totals.make_room(pairs(piece.outputs));
    for (int x = 0; x < piece.outputs; x += kPixels) {
        const auto& sums = *reinterpret_cast<const Sums<kPixels, 2>*>(piece.sums.of[kLead + x]);
        __m256i bytes[kPixels / 2];
        if (packed.product) {
            finish_product(packed, group, sums, bytes);
        } else {
            finish_lookup(packed, group, sums, bytes);
        }
#pragma GCC unroll 4
        for (int i = 0; i < kPixels / 2; ++i) {
            const int left = piece.outputs - x - 2 * i;
            if (left <= 0) break;
            store_half(out, _mm256_castsi256_si128(bytes[i]));
            if (left == 1) {
                totals.add(_mm256_zextsi128_si256(_mm256_castsi256_si128(bytes[i])));
                break;
            }
            store_half(out + out_stride, _mm256_extracti128_si256(bytes[i], 1));
            totals.add(bytes[i]);
            out += 2 * out_stride;
        }
    }
}

void depthwise(const void* memory, const DepthwiseRun& run) {
    const auto& packed = *static_cast<const PackedStage*>(memory);
    const int first = run.panel * kPanelGroups;
    const int wanted = first + kPanelGroups;
    const int end = wanted < packed.groups ? wanted : packed.groups;
    const uint8_t* rows[kMostKernel];
    Piece piece;
    piece.rows = rows;
    piece.stride = run.in_stride;
    for (int group = first; group < end; ++group) {
        const size_t channel = static_cast<size_t>(group - first) * kGroup;
        Totals totals(run.sums == nullptr ? nullptr : run.sums + channel);
        for (int r = 0; r < run.rows; ++r) {
            for (int x = 0; x < run.width; x += kPiece) {
                const size_t at = static_cast<size_t>(x) * packed.stride * run.in_stride + channel;
                for (int i = 0; i < packed.kernel; ++i) {
                    rows[i] = run.in[r * packed.stride + i] + at;
                }
                piece.outputs = run.width - x < kPiece ? run.width - x : kPiece;
                run_piece(packed, group, piece);
                uint8_t* out = run.out + r * run.out_row_stride + x * run.out_stride + channel;
                finish_piece(packed, group, piece, out, run.out_stride, totals);
            }
        }
        totals.flush();
    }
}

}  // namespace
}  // namespace effnet_edge
