// Choosing the form of a lookup table: see avx2_lookup.h.
#pragma once

#include "avx2_lookup.h"

namespace effnet_edge {
namespace {

constexpr int rise_of(int slope, int step) { return (slope * step) >> 5; }

// Finds a line that is in each step at most `most_left` below the row, and never above.
inline bool fit_line(const uint8_t* row, int most_left, int& base, int& slope) {
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
        if (most - least <= most_left) return true;
    }
    return false;
}

inline void set_bit(Bits& bits, int row, int l, int bit) {
    uint8_t& byte = (row < 8 ? bits.lower : bits.upper)[l];
    byte = static_cast<uint8_t>(byte | bit << row % 8);
}

inline bool pack_lines(const uint8_t* table, bool two_bits, PackedTable& packed) {
    packed = PackedTable{};
    packed.two_bits = two_bits;
    for (int r = 0; r < kTableBytes / kRow; ++r) {
        const uint8_t* row = table + r * kRow;
        int base = 0, slope = 0;
        if (!fit_line(row, two_bits ? 3 : 1, base, slope)) {
            if (packed.bends == kMostBends) return false;
            packed.row_of_bend[packed.bends] = static_cast<uint8_t>(r * kRow);
            std::memcpy(packed.bend[packed.bends], row, kRow);
            ++packed.bends;
            continue;
        }
        packed.base[r] = static_cast<int8_t>(base);
        packed.slope[r] = static_cast<int8_t>(slope);
        for (int l = 0; l < kRow; ++l) {
            const int left = row[l] - base - rise_of(slope, l);
            set_bit(packed.ones, r, l, left & 1);
            set_bit(packed.twos, r, l, left >> 1);
        }
    }
    return true;
}

inline void pack_table(const uint8_t* table, PackedTable& packed) {
    packed.lines = pack_lines(table, false, packed) || pack_lines(table, true, packed);
    for (int i = 0; i < kTableBytes; ++i) {
        packed.rows[i] = table[i] ^ (i % kHalfTable < kRow ? 0 : table[i - kRow]);
    }
}

}  // namespace
}  // namespace effnet_edge
