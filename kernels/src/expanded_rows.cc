#include "expanded_rows.h"

#include <cstring>

namespace effnet_edge {

void ExpandedRows::clear() {
    const size_t left = static_cast<size_t>(geometry_.pad_left) * geometry_.channels;
    const size_t inner = static_cast<size_t>(geometry_.width) * geometry_.channels;
    for (int slot = 0; slot < capacity_; ++slot) {
        std::memset(start(slot), geometry_.padding, left);
        std::memset(start(slot) + left + inner, geometry_.padding, row_bytes_ - left - inner);
    }
    std::memset(start(capacity_), geometry_.padding, row_bytes_);
}

}  // namespace effnet_edge
