// Scratch memory, shared by all kernels of the process.
//
// Kernels of a session run one after the other, so one buffer, as large as the greediest of them
// wants it, serves them all; there are as many as there were runs at a time. All of it goes with
// the last kernel.
#pragma once

#include <cstddef>
#include <memory>
#include <mutex>
#include <new>
#include <utility>
#include <vector>

namespace effnet_edge {

class ScratchPool {
  public:
    // The only one.
    static ScratchPool& instance();

    // Memory is kept as long as somebody uses the pool.
    class User {
      public:
        User() { instance().add_user(1); }
        ~User() { instance().add_user(-1); }
        User(const User&) = delete;
        User& operator=(const User&) = delete;
    };

    class Buffer {
      public:
        Buffer() = default;
        explicit Buffer(size_t bytes)
            : data_(::operator new(bytes, std::align_val_t{kAlignment})), bytes_(bytes) {}
        void* data() const { return data_.get(); }
        size_t bytes() const { return bytes_; }

      private:
        static constexpr size_t kAlignment = 64;
        struct Delete {
            void operator()(void* data) const {
                ::operator delete(data, std::align_val_t{kAlignment});
            }
        };
        std::unique_ptr<void, Delete> data_;
        size_t bytes_ = 0;
    };

    // A buffer on loan.
    class Lease {
      public:
        explicit Lease(size_t bytes) : buffer_(instance().take(bytes)) {}
        ~Lease() { instance().give_back(std::move(buffer_)); }
        Lease(const Lease&) = delete;
        Lease& operator=(const Lease&) = delete;
        void* data() const { return buffer_.data(); }

      private:
        Buffer buffer_;
    };

  private:
    ScratchPool() = default;
    void add_user(int change);
    Buffer take(size_t bytes);
    void give_back(Buffer buffer) noexcept;

    std::mutex mutex_;
    std::vector<Buffer> free_;
    int users_ = 0;
    size_t lent_ = 0;
    size_t most_bytes_ = 1;
};

}  // namespace effnet_edge
