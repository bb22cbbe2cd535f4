// Choosing the form of a lookup table: see avx2_lookup.h.
#pragma once

#include "avx2_lookup.h"

namespace effnet_edge {
namespace {

constexpr int rise_of(int slope, int step) { return (slope * step) >> 5; }

// Finds a line that is in each step equal to the row or one less.
inline bool fit_line(const uint8_t* row, int& base, int& slope) {
    constexpr int kAround = 5;  // slopes to try beside that of the row's ends
    const int middle = ((row[kRow - 1] - row[0]) * 32) / (kRow - 1);
    for (int i = 0; i <= 2 * kAround; ++i) {
        slope = middle + (i % 2 == 0 ? i / 2 : -(i + 1) / 2);
        if (slope < -128 || slope > 127) continue;
        int least = 255 + 128, most = -least;
        for (int l = 0; l < kRow; ++l) {
            const int left = row[l] - rise_of(slope, l);
            least = left < least ? left : least;
            most = left > most ? left : most;
        }
        base = least;
        if (most - least <= 1) return true;
    }
    return false;
}

inline bool pack_lines(const uint8_t* table, PackedTable& packed) {
    for (int r = 0; r < kTableBytes / kRow; ++r) {
        const uint8_t* row = table + r * kRow;
        int base = 0, slope = 0;
        if (!fit_line(row, base, slope)) {
            if (packed.bends == kMostBends) return false;
            packed.row_of_bend[packed.bends] = static_cast<uint8_t>(r * kRow);
            std::memcpy(packed.bend[packed.bends], row, kRow);
            ++packed.bends;
            continue;
        }
        packed.base[r] = static_cast<int8_t>(base);
        packed.slope[r] = static_cast<int8_t>(slope);
        uint8_t* bits = r < 8 ? packed.lower_bits : packed.upper_bits;
        for (int l = 0; l < kRow; ++l) {
            const int left = row[l] - base - rise_of(slope, l);
            bits[l] = static_cast<uint8_t>(bits[l] | left << r % 8);
        }
    }
    return true;
}

inline void pack_table(const uint8_t* table, PackedTable& packed) {
    packed = PackedTable{};
    packed.lines = pack_lines(table, packed);
    for (int i = 0; i < kTableBytes; ++i) {
        packed.rows[i] = table[i] ^ (i % kHalfTable < kRow ? 0 : table[i - kRow]);
    }
}

}  // namespace
}  // namespace effnet_edge
