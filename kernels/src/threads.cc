#include "threads.h"

#include <algorithm>

namespace {

constexpr int kSpins = 4000;

inline void pause_processor() {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__) || defined(__arm__)
    asm volatile("yield");
#endif
}

}  // namespace

ee_threads::ee_threads(int threads) {
    scheduler_.parallel_for = parallel_for;
    scheduler_.context = this;
    scheduler_.threads = std::max(threads, 1);
    try {
        for (int i = 1; i < threads; ++i) {
            workers_.emplace_back(&ee_threads::work, this, static_cast<size_t>(i));
        }
    } catch (...) {
        // The system gives no more threads: those that there are do.
        scheduler_.threads = static_cast<int32_t>(workers_.size()) + 1;
    }
}

ee_threads::~ee_threads() {
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        stop_ = true;
        round_.fetch_add(1, std::memory_order_release);
    }
    started_.notify_all();
    for (std::thread& worker : workers_) worker.join();
}

uint64_t ee_threads::wait(uint64_t seen) {
    for (int i = 0; i < kSpins; ++i) {
        const uint64_t round = round_.load(std::memory_order_acquire);
        if (round != seen) return round;
        pause_processor();
    }
    std::unique_lock<std::mutex> lock(mutex_);
    started_.wait(lock, [&] { return round_.load(std::memory_order_acquire) != seen; });
    return round_.load(std::memory_order_acquire);
}

void ee_threads::work(size_t index) {
    for (uint64_t seen = 0;;) {
        seen = wait(seen);
        if (stop_) return;
        for (size_t i = index; i < count_; i += workers_.size() + 1) task_(argument_, i);
        busy_.fetch_sub(1, std::memory_order_acq_rel);
    }
}

void ee_threads::parallel_for(void* context, Task task, size_t count, void* argument) {
    ee_threads& threads = *static_cast<ee_threads*>(context);
    const size_t step = threads.workers_.size() + 1;
    if (step > 1 && count > 1) {
        const std::lock_guard<std::mutex> lock(threads.mutex_);
        threads.task_ = task;
        threads.argument_ = argument;
        threads.count_ = count;
        threads.busy_.store(threads.workers_.size(), std::memory_order_release);
        threads.round_.fetch_add(1, std::memory_order_release);
        threads.started_.notify_all();
    }
    for (size_t i = 0; i < count; i += step > 1 && count > 1 ? step : 1) task(argument, i);
    if (step > 1 && count > 1) {
        for (int spins = 0; threads.busy_.load(std::memory_order_acquire) != 0; ++spins) {
            if (spins < kSpins) {
                pause_processor();
            } else {
                std::this_thread::yield();
            }
        }
    }
}
