// A few threads that wait for loops to share.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

#include "effnet_edge_kernels.h"

// A run has dozens of short loops, one after the other: between two of them threads watch a counter for
// some microseconds before they sleep.
struct ee_threads {
  public:
    explicit ee_threads(int threads);
    ~ee_threads();
    ee_threads(const ee_threads&) = delete;
    ee_threads& operator=(const ee_threads&) = delete;

    const ee_scheduler& scheduler() const { return scheduler_; }

  private:
    using Task = void (*)(void* argument, size_t index);
    static void parallel_for(void* context, Task task, size_t count, void* argument);
    void work(size_t index);
    uint64_t wait(uint64_t seen);

    ee_scheduler scheduler_{};
    std::vector<std::thread> workers_;
    std::atomic<uint64_t> round_{0};  // counts loops; changes under `mutex_`
    std::atomic<size_t> busy_{0};     // workers that have not finished this round
    std::atomic<bool> stop_{false};
    std::mutex mutex_;
    std::condition_variable started_;
    Task task_ = nullptr;
    void* argument_ = nullptr;
    size_t count_ = 0;
};
