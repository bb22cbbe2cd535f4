// Depthwise convolutions, 16 channels of a row at a time.
//
// Columns are taken from left to right. Each is interleaved once and added to all outputs that it
// takes part in, which wait in registers; the oldest is then complete. What comes out are the
// requantized bytes of a piece of a row; activation and sums follow over the piece.
#pragma once

#include "avx2_pack.h"

namespace effnet_edge {
namespace {

constexpr int kPiece = 64;       // outputs; 16-bit sums of twice as many bytes don't overflow
constexpr int kLead = 4;         // most outputs that wait for columns
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
            *weight++ = channel < stage.channels ? stage.weight.data()[channel * stage.taps + tap] : 0;
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
    const PackedStage& packed = pack_frame(stage, depthwise_weight_bytes(stage), memory);
    for (int group = 0; group < packed.groups; ++group) {
        pack_constants(stage, group, channel_of_lane, packed);
        auto* weights = const_cast<uint8_t*>(packed.weights(group));
        if (!has_columns(stage.taps, stage.stride)) {
            pack_taps(stage, group, reinterpret_cast<int16_t*>(weights));
        } else if (stage.taps == 9) {
            pack_columns<3>(stage, group, reinterpret_cast<Multiply::Weight*>(weights));
        } else {
            pack_columns<5>(stage, group, reinterpret_cast<Multiply::Weight*>(weights));
        }
    }
}

// A piece of a row: what it is computed from, and of each of its outputs the 16 bytes that are looked
// up, or are the result; for products the numbers too that the sigmoids are multiplied with.
struct Piece {
    Piece(const PackedStage& stage, int group, const uint8_t* const* first_columns, size_t in_stride)
        : packed(stage),
          constants(stage.constants(group)),
          weights(stage.weights(group)),
          rows(first_columns),
          stride(in_stride) {}

    const PackedStage& packed;
    const GroupConstants& constants;
    const uint8_t* weights;
    const uint8_t* const* rows;  // at the first column of the first output
    size_t stride;
    int outputs = 0;
    alignas(32) uint8_t bytes[kLead + kPiece][kGroup];
    alignas(32) int16_t values[kLead + kPiece][kGroup];
};

[[gnu::always_inline]] inline void finish_sums(Piece& piece, const __m256i (&sums)[2], int slot) {
    const __m256i rounder_bits = _mm256_set1_epi32(piece.packed.rounder_bits);
    const __m256i words = requantize_group(sums, piece.constants.scale, rounder_bits);
    store_half(piece.bytes[slot], to_bytes(words));
    if (piece.packed.product) {
        store(piece.values[slot], requantize_group(sums, piece.constants.value_scale,
                                                   _mm256_set1_epi32(kRounderBits)));
    }
}

// From left to right over the columns that a piece reads.
template <int kKernel, int kStride>
struct Sweep {
    // Outputs that a column takes part in.
    static constexpr int kWaiting = (kKernel + kStride - 1) / kStride;
    static_assert(kWaiting - 1 <= kLead);

    // Step t begins output t and completes output t - kWaiting + 1. Outputs t - kBegin down to
    // t - kEnd + 1 are wanted.
    template <int kBegin, int kEnd>
    [[gnu::always_inline]] static inline void step(Piece& piece, int t,
                                                   __m256i (&sums)[kWaiting][2]) {
#pragma GCC unroll 5
        for (int q = kWaiting - 1; q > 0; --q) {
            sums[q][0] = sums[q - 1][0];
            sums[q][1] = sums[q - 1][1];
        }
        sums[0][0] = load(piece.constants.bias);
        sums[0][1] = load(piece.constants.bias + 8);
        const int last = (piece.outputs - 1) * kStride + kKernel - 1;
        Columns<kKernel, kStride>::template add<kBegin, kEnd>(piece.rows, piece.stride, t, last,
                                                              piece.weights, sums);
        if (kEnd == kWaiting) {
            finish_sums(piece, sums[kWaiting - 1], kLead + t - kWaiting + 1);
        }
    }

    template <int kStep>
    [[gnu::always_inline]] static inline void lead_in(Piece& piece, __m256i (&sums)[kWaiting][2]) {
        if constexpr (kStep < kWaiting - 1) {
            step<0, kStep + 1>(piece, kStep, sums);
            lead_in<kStep + 1>(piece, sums);
        }
    }

    template <int kStep>
    [[gnu::always_inline]] static inline void lead_out(Piece& piece, __m256i (&sums)[kWaiting][2]) {
        if constexpr (kStep < kWaiting) {
            step<kStep, kWaiting>(piece, piece.outputs - 1 + kStep, sums);
            lead_out<kStep + 1>(piece, sums);
        }
    }

    static void run(Piece& piece) {
        __m256i sums[kWaiting][2];
        for (auto& sum : sums) sum[0] = sum[1] = _mm256_setzero_si256();
        if (piece.outputs < kWaiting) {  // outputs that don't exist are completed too, and not used
            for (int t = 0; t < piece.outputs + kWaiting - 1; ++t) step<0, kWaiting>(piece, t, sums);
            return;
        }
        lead_in<0>(piece, sums);
        for (int t = kWaiting - 1; t < piece.outputs; ++t) step<0, kWaiting>(piece, t, sums);
        lead_out<1>(piece, sums);
    }
};

// Any kernel and stride, one tap at a time.
void run_taps(Piece& piece) {
    const int kernel = piece.packed.kernel, stride = piece.packed.stride;
    for (int x = 0; x < piece.outputs; ++x) {
        __m256i sums[2] = {load(piece.constants.bias), load(piece.constants.bias + 8)};
        const uint8_t* weights = piece.weights;
        for (int i = 0; i < kernel; ++i) {
            for (int j = 0; j < kernel; ++j, weights += 64) {
                const __m256i input = load_words(piece.rows[i] + (x * stride + j) * piece.stride);
                const __m256i zero = _mm256_setzero_si256();
                sums[0] = _mm256_add_epi32(
                    sums[0], _mm256_madd_epi16(_mm256_unpacklo_epi16(input, zero), load(weights)));
                sums[1] = _mm256_add_epi32(
                    sums[1], _mm256_madd_epi16(_mm256_unpackhi_epi16(input, zero), load(weights + 32)));
            }
        }
        finish_sums(piece, sums, kLead + x);
    }
}

void run_piece(Piece& piece) {
    const int kernel = piece.packed.kernel, stride = piece.packed.stride;
    if (!has_columns(kernel * kernel, stride)) {
        run_taps(piece);
    } else if (kernel == 3) {
        (stride == 1 ? Sweep<3, 1>::run : Sweep<3, 2>::run)(piece);
    } else {
        (stride == 1 ? Sweep<5, 1>::run : Sweep<5, 2>::run)(piece);
    }
}

inline __m256i piece_product(const Piece& piece, int slot, __m256i sigmoids) {
    const __m256i low = _mm256_cvtepu8_epi16(_mm256_castsi256_si128(sigmoids));
    const __m256i high = _mm256_cvtepu8_epi16(_mm256_extracti128_si256(sigmoids, 1));
    const __m256i words = _mm256_packus_epi16(
        multiply_sigmoid(load(piece.values[slot]), low, piece.packed.zero_point),
        multiply_sigmoid(load(piece.values[slot + 1]), high, piece.packed.zero_point));
    return _mm256_permute4x64_epi64(words, 0xD8);
}

// Activation of a piece, and to where it belongs. `totals`: sums of even and odd channels, 16 bits
// each, of the pixels in either half.
void finish_piece(Piece& piece, uint8_t* out, size_t out_stride, __m256i (&totals)[2]) {
    constexpr int kVectors = 4;
    for (int x = 0; x < piece.outputs; x += 2 * kVectors) {
        __m256i bytes[kVectors];
        for (int i = 0; i < kVectors; ++i) bytes[i] = load(piece.bytes[kLead + x + 2 * i]);
        if (piece.packed.lookup) look_up(piece.packed.table, bytes);
        if (piece.packed.product) {
            for (int i = 0; i < kVectors; ++i) {
                bytes[i] = piece_product(piece, kLead + x + 2 * i, bytes[i]);
            }
        }
#pragma GCC unroll 4
        for (int i = 0; i < kVectors; ++i) {
            const int left = piece.outputs - x - 2 * i;
            if (left <= 0) break;
            store_half(out, _mm256_castsi256_si128(bytes[i]));
            if (left > 1) {
                store_half(out + out_stride, _mm256_extracti128_si256(bytes[i], 1));
            } else {
                bytes[i] = _mm256_zextsi128_si256(_mm256_castsi256_si128(bytes[i]));
            }
            out += 2 * out_stride;
            totals[0] = _mm256_add_epi16(totals[0], _mm256_and_si256(bytes[i], _mm256_set1_epi16(255)));
            totals[1] = _mm256_add_epi16(totals[1], _mm256_srli_epi16(bytes[i], 8));
        }
    }
}

void add_totals(const __m256i (&totals)[2], int32_t* sums) {
    uint16_t total[2][kGroup];
    store(total[0], totals[0]);
    store(total[1], totals[1]);
    for (int c = 0; c < kGroup; ++c) {
        sums[c] += total[c % 2][c / 2] + total[c % 2][kGroup / 2 + c / 2];
    }
}

void depthwise(const void* memory, const DepthwiseRun& run) {
    const auto& packed = *static_cast<const PackedStage*>(memory);
    const int first = run.panel * kPanelGroups;
    const int wanted = first + kPanelGroups;
    const int end = wanted < packed.groups ? wanted : packed.groups;
    for (int group = first; group < end; ++group) {
        const size_t channel = static_cast<size_t>(group - first) * kGroup;
        const uint8_t* rows[kMostKernel];
        Piece piece(packed, group, rows, run.in_stride);
        for (int r = 0; r < run.rows; ++r) {
            for (int x = 0; x < run.width; x += kPiece) {
                const size_t at = static_cast<size_t>(x) * packed.stride * run.in_stride + channel;
                for (int i = 0; i < packed.kernel; ++i) rows[i] = run.in[r * packed.stride + i] + at;
                piece.outputs = run.width - x < kPiece ? run.width - x : kPiece;
                run_piece(piece);
                __m256i totals[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
                finish_piece(piece, run.out + r * run.out_row_stride + x * run.out_stride + channel,
                             run.out_stride, totals);
                if (run.sums != nullptr) add_totals(totals, run.sums + channel);
            }
        }
    }
}

}  // namespace
}  // namespace effnet_edge
