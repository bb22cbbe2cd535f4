// Sharing work among the caller's threads.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>

#include "effnet_edge_kernels.h"

namespace effnet_edge {

inline int thread_count(const ee_scheduler* scheduler) {
    return scheduler == nullptr || scheduler->parallel_for == nullptr
               ? 1
               : std::max(scheduler->threads, 1);
}

// Runs begin(lane) once in each lane that takes part, then task(lane, i) for i from 0 to tasks - 1.
// A lane runs one task at a time, so it may own memory; whichever lane is free takes the next task.
template <class Begin, class Task>
void run_tasks(const ee_scheduler* scheduler, int tasks, const Begin& begin, const Task& task) {
    const int lanes = std::min(thread_count(scheduler), tasks);
    if (lanes <= 1) {
        begin(0);
        for (int i = 0; i < tasks; ++i) task(0, i);
        return;
    }
    struct Shared {
        const Begin& begin;
        const Task& task;
        const int tasks;
        std::atomic<int> next{0};
    } shared{begin, task, tasks};
    scheduler->parallel_for(
        scheduler->context,
        [](void* argument, size_t lane) {
            Shared& work = *static_cast<Shared*>(argument);
            int i = work.next.fetch_add(1, std::memory_order_relaxed);
            if (i >= work.tasks) return;
            work.begin(static_cast<int>(lane));
            for (; i < work.tasks; i = work.next.fetch_add(1, std::memory_order_relaxed)) {
                work.task(static_cast<int>(lane), i);
            }
        },
        static_cast<size_t>(lanes), &shared);
}

template <class Task>
void run_tasks(const ee_scheduler* scheduler, int tasks, const Task& task) {
    run_tasks(scheduler, tasks, [](int) {}, task);
}

}  // namespace effnet_edge
