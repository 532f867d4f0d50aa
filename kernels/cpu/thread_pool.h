// Fork-join over a fixed set of threads: num_threads - 1 workers and the caller.
//
// One thread calls ParallelFor at a time. Workers spin for some tens of microseconds after a job,
// so that the ops of one step find them awake, and then sleep. No allocation after construction.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace kvs::cpu {

class ThreadPool {
 public:
  explicit ThreadPool(uint32_t num_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  uint32_t num_threads() const { return static_cast<uint32_t>(workers_.size()) + 1; }

  // Calls fn(task, thread) once for each task in [0, num_tasks), in any order, with thread in
  // [0, num_threads), and returns when all calls have returned. fn must not throw nor call back.
  // REQUIRES: num_tasks < 2^31.
  template <class Fn>
  void ParallelFor(uint32_t num_tasks, const Fn& fn) {
    if (num_tasks <= 1 || workers_.empty()) {
      for (uint32_t task = 0; task < num_tasks; ++task) fn(task, 0u);
      return;
    }
    Run(num_tasks, &fn, [](const void* context, uint32_t task, uint32_t thread) {
      (*static_cast<const Fn*>(context))(task, thread);
    });
  }

 private:
  using TaskFn = void (*)(const void* context, uint32_t task, uint32_t thread);

  void Run(uint32_t num_tasks, const void* context, TaskFn fn);
  void Work(uint32_t thread);
  bool RunOneTask(uint32_t thread);

  // The next task of the current job in the low half, one past its last task in the high half. A
  // successful compare-exchange both claims a task and proves that the job is still current, so
  // that context_ and fn_ may be read after it.
  alignas(64) std::atomic<uint64_t> ticket_{0};
  alignas(64) std::atomic<uint32_t> num_done_{0};
  alignas(64) std::atomic<uint32_t> job_count_{0};  // changes with each job; workers sleep on it
  std::atomic<bool> stopping_{false};
  const void* context_ = nullptr;
  TaskFn fn_ = nullptr;
  std::vector<std::thread> workers_;
};

// One per physical core among the processors this process may run on; at least 1.
uint32_t DefaultNumThreads();

}  // namespace kvs::cpu
