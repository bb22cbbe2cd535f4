// Memory that ends where a page begins which may not be touched: a byte too far is a crash.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>

namespace effnet_edge {

using Random = std::mt19937;

inline int between(Random& random, int low, int high) {
    return std::uniform_int_distribution<int>(low, high)(random);
}

class Guarded {
  public:
    explicit Guarded(size_t size, size_t alignment = 1) : size_(size) {
        const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
        const size_t room = (size + alignment + page - 1) / page * page;
        mapped_ = room + page;
        base_ = static_cast<uint8_t*>(
            mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
        if (base_ == MAP_FAILED || mprotect(base_ + room, page, PROT_NONE) != 0) {
            std::perror("mmap");
            std::exit(2);
        }
        data_ = base_ + room - (size + alignment - 1) / alignment * alignment;
    }
    ~Guarded() { munmap(base_, mapped_); }
    Guarded(const Guarded&) = delete;
    Guarded& operator=(const Guarded&) = delete;

    uint8_t* data() { return data_; }
    size_t size() const { return size_; }
    void fill(Random& random) {
        for (size_t i = 0; i < size_; ++i) data_[i] = static_cast<uint8_t>(random());
    }

  private:
    size_t size_, mapped_;
    uint8_t *base_, *data_;
};

}  // namespace effnet_edge
