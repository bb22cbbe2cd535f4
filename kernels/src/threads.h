// A few threads that wait for loops to share.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

#include "effnet_edge_kernels.h"

// A run has dozens of short loops, one after the other: between two of them threads watch a counter
// for some microseconds before they sleep. A loop ends when its last index is done, whoever did it:
// a thread that the system doesn't let run in time holds nobody up.
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
    void work();
    bool run_one();
    bool sleep_until_work();

    ee_scheduler scheduler_{};
    std::vector<std::thread> workers_;
    // The loop's number, how many indices it has, and the next that nobody has taken: 32, 16 and 16
    // bits. Whoever raises the last has taken an index of just this loop, which can't end before.
    std::atomic<uint64_t> loop_{0};
    std::atomic<size_t> done_{0};
    Task task_ = nullptr;
    void* argument_ = nullptr;
    std::atomic<bool> stop_{false};
    std::atomic<int> sleepers_{0};
    std::mutex mutex_;
    std::condition_variable started_;
};
