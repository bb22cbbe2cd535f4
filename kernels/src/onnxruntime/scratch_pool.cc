#include "scratch_pool.h"

#include <algorithm>

namespace effnet_edge {

ScratchPool& ScratchPool::instance() {
    static auto& pool = *new ScratchPool;  // sessions may outlive what is destroyed at exit
    return pool;
}

void ScratchPool::add_user(int change) {
    const std::lock_guard<std::mutex> lock(mutex_);
    users_ += change;
    if (users_ > 0) return;
    std::vector<Buffer>().swap(free_);
    most_bytes_ = 1;
}

ScratchPool::Buffer ScratchPool::take(size_t bytes) {
    Buffer buffer;
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        free_.reserve(free_.size() + lent_ + 1);  // so that giving back can't fail
        most_bytes_ = std::max(most_bytes_, bytes);
        bytes = most_bytes_;
        if (!free_.empty()) {
            buffer = std::move(free_.back());
            free_.pop_back();
        }
        ++lent_;
    }
    if (buffer.bytes() >= bytes) return buffer;
    try {
        buffer = Buffer();  // first let go of what is too small: its content is nobody's
        return Buffer(bytes);
    } catch (...) {
        const std::lock_guard<std::mutex> lock(mutex_);
        --lent_;
        throw;
    }
}

void ScratchPool::give_back(Buffer buffer) noexcept {
    const std::lock_guard<std::mutex> lock(mutex_);
    --lent_;
    free_.push_back(std::move(buffer));
}

}  // namespace effnet_edge
