// Rows of the expanded map as the depthwise convolution reads them: a few at a time, padded.
#pragma once

#include <algorithm>
#include <cstdint>

#include "packed.h"

namespace effnet_edge {

// Where the map's rows come from and how they are padded.
struct RowGeometry {
    int height, width;        // of the map
    int channels;             // in memory, of one pixel: the kernels' panel
    int pad_left, pad_right;  // columns
    uint8_t padding;          // the byte that stands for zero

    size_t row_bytes() const {
        // The depthwise kernels may look 64 bytes further.
        return round_up(static_cast<size_t>(width + pad_left + pad_right) * channels + 64,
                        kAlignment);
    }
};

// A ring of `capacity` rows and one of padding. Row i of the map is kept in slot i % capacity.
class ExpandedRows {
  public:
    ExpandedRows(const RowGeometry& geometry, int capacity, uint8_t* memory)
        : geometry_(geometry),
          row_bytes_(geometry.row_bytes()),
          capacity_(capacity),
          memory_(memory) {}

    static size_t bytes(const RowGeometry& geometry, int capacity) {
        return geometry.row_bytes() * (capacity + 1);
    }

    // Write all padding. Only inner columns are written later, so once for all that comes.
    void clear();

    // Where rows `first` to `first + count - 1` begin, their padding included.
    void find(int first, int count, const uint8_t** rows) const {
        int slot = std::max(first, 0) % capacity_;
        for (int i = 0; i < count; ++i) {
            if (first + i < 0 || first + i >= geometry_.height) {
                rows[i] = start(capacity_);
                continue;
            }
            rows[i] = start(slot);
            slot = slot + 1 == capacity_ ? 0 : slot + 1;
        }
    }

    // The map's column 0 in a row's slot.
    uint8_t* inner(int index) {
        return start(index % capacity_) +
               static_cast<size_t>(geometry_.pad_left) * geometry_.channels;
    }

    // How many of the rows from `index` on, up to `count`, follow each other in memory.
    int consecutive(int index, int count) const {
        const int left = capacity_ - index % capacity_;
        return count < left ? count : left;
    }

    size_t row_bytes() const { return row_bytes_; }

  private:
    uint8_t* start(int slot) const { return memory_ + slot * row_bytes_; }

    RowGeometry geometry_;
    size_t row_bytes_;
    int capacity_;
    uint8_t* memory_;
};

}  // namespace effnet_edge
