// Laying out memory that is given in one piece.
#pragma once

#include <cstddef>
#include <cstdint>

namespace effnet_edge {

constexpr size_t kAlignment = 64;

inline size_t round_up(size_t value, size_t multiple) {
    return (value + multiple - 1) / multiple * multiple;
}

// Hands out aligned pieces of `base`. With a base of nullptr it only adds up.
class Scratch {
  public:
    explicit Scratch(void* base) : base_(static_cast<uint8_t*>(base)) {}

    template <class T>
    T* take(size_t count) {
        uint8_t* piece = base_ == nullptr ? nullptr : base_ + used_;
        used_ += round_up(count * sizeof(T), kAlignment);
        return reinterpret_cast<T*>(piece);
    }

    size_t used() const { return used_; }

  private:
    uint8_t* base_;
    size_t used_ = 0;
};

}  // namespace effnet_edge
