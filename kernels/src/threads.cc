#include "threads.h"

#include <algorithm>

namespace {

constexpr int kSpins = 4000;
constexpr int kMostThreads = 1024;

inline void pause_processor() {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__) || defined(__arm__)
    asm volatile("yield");
#endif
}

constexpr uint64_t next_index(uint64_t loop) { return loop & 0xFFFF; }
constexpr uint64_t index_count(uint64_t loop) { return loop >> 16 & 0xFFFF; }
constexpr bool has_work(uint64_t loop) { return next_index(loop) < index_count(loop); }
constexpr uint64_t loop_after(uint64_t loop, uint64_t count) {
    return ((loop >> 32) + 1) << 32 | count << 16;
}

}  // namespace

ee_threads::ee_threads(int threads) {
    threads = std::min(std::max(threads, 1), kMostThreads);
    scheduler_.parallel_for = parallel_for;
    scheduler_.context = this;
    scheduler_.threads = threads;
    try {
        for (int i = 1; i < threads; ++i) workers_.emplace_back(&ee_threads::work, this);
    } catch (...) {
        // The system gives no more threads: those that there are do.
        scheduler_.threads = static_cast<int32_t>(workers_.size()) + 1;
    }
}

ee_threads::~ee_threads() {
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        stop_ = true;
    }
    started_.notify_all();
    for (std::thread& worker : workers_) worker.join();
}

// Takes an index of the current loop and does it. False if there is none left.
bool ee_threads::run_one() {
    uint64_t loop = loop_.load();
    do {
        if (!has_work(loop)) return false;
    } while (!loop_.compare_exchange_weak(loop, loop + 1));
    task_(argument_, next_index(loop));
    done_.fetch_add(1);
    return true;
}

// False if it is time to stop.
bool ee_threads::sleep_until_work() {
    std::unique_lock<std::mutex> lock(mutex_);
    sleepers_.fetch_add(1);
    // Not with a predicate: the library's template of that name is newer than old systems.
    while (!stop_ && !has_work(loop_.load())) started_.wait(lock);
    sleepers_.fetch_sub(1);
    return !stop_;
}

void ee_threads::work() {
    for (;;) {
        int spins = 0;
        while (spins < kSpins && !stop_) {
            if (run_one()) {
                spins = 0;
            } else {
                pause_processor();
                ++spins;
            }
        }
        if (!sleep_until_work()) return;
    }
}

void ee_threads::parallel_for(void* context, Task task, size_t count, void* argument) {
    ee_threads& threads = *static_cast<ee_threads*>(context);
    if (threads.workers_.empty() || count <= 1 || count > 0xFFFF) {
        for (size_t i = 0; i < count; ++i) task(argument, i);
        return;
    }
    threads.task_ = task;
    threads.argument_ = argument;
    threads.done_.store(0);
    threads.loop_.store(loop_after(threads.loop_.load(), count));
    // A thread counts as a sleeper before it looks for work the last time: either it finds this
    // loop, or it is seen here.
    if (threads.sleepers_.load() > 0) {
        {
            const std::lock_guard<std::mutex> lock(threads.mutex_);
        }
        threads.started_.notify_all();
    }
    while (threads.run_one()) {
    }
    for (int spins = 0; threads.done_.load() != count; ++spins) {
        if (spins < kSpins) {
            pause_processor();
        } else {
            std::this_thread::yield();
        }
    }
}
