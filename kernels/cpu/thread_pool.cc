#include "cpu/thread_pool.h"

#include <sched.h>

#include <chrono>
#include <fstream>
#include <set>
#include <string>

#include "kvserve/check.h"

namespace kvs::cpu {
namespace {

constexpr std::chrono::microseconds kSpin{40};

inline void Relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Spins until `done()` or the time is up; says which.
template <class Done>
bool SpinUntil(const Done& done) {
  const auto deadline = std::chrono::steady_clock::now() + kSpin;
  do {
    for (int i = 0; i < 64; ++i) {
      if (done()) return true;
      Relax();
    }
  } while (std::chrono::steady_clock::now() < deadline);
  return done();
}

constexpr uint32_t Next(uint64_t ticket) { return static_cast<uint32_t>(ticket); }
constexpr uint32_t End(uint64_t ticket) { return static_cast<uint32_t>(ticket >> 32); }

}  // namespace

ThreadPool::ThreadPool(uint32_t num_threads) {
  KVS_CHECK_OP(num_threads, >=, 1u);
  workers_.reserve(num_threads - 1);
  for (uint32_t thread = 1; thread < num_threads; ++thread) {
    workers_.emplace_back([this, thread] { Work(thread); });
  }
}

ThreadPool::~ThreadPool() {
  stopping_.store(true);
  job_count_.fetch_add(1);
  job_count_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

bool ThreadPool::RunOneTask(uint32_t thread) {
  uint64_t ticket = ticket_.load(std::memory_order_acquire);
  do {
    if (Next(ticket) >= End(ticket)) return false;
  } while (!ticket_.compare_exchange_weak(ticket, ticket + 1, std::memory_order_acq_rel,
                                          std::memory_order_acquire));
  fn_(context_, Next(ticket), thread);
  if (num_done_.fetch_add(1, std::memory_order_acq_rel) + 1 == End(ticket)) num_done_.notify_one();
  return true;
}

void ThreadPool::Run(uint32_t num_tasks, const void* context, TaskFn fn) {
  KVS_CHECK_OP(num_tasks, <, 1u << 31);
  context_ = context;
  fn_ = fn;
  num_done_.store(0, std::memory_order_relaxed);
  ticket_.store(uint64_t{num_tasks} << 32, std::memory_order_release);
  job_count_.fetch_add(1);
  job_count_.notify_all();
  while (RunOneTask(0)) {
  }
  const auto all_done = [&] { return num_done_.load(std::memory_order_acquire) == num_tasks; };
  if (SpinUntil(all_done)) return;
  while (!all_done()) {
    const uint32_t done = num_done_.load(std::memory_order_acquire);
    if (done != num_tasks) num_done_.wait(done, std::memory_order_acquire);
  }
}

void ThreadPool::Work(uint32_t thread) {
  while (!stopping_.load(std::memory_order_relaxed)) {
    const uint32_t seen = job_count_.load();
    while (RunOneTask(thread)) {
    }
    if (!SpinUntil([&] { return job_count_.load(std::memory_order_relaxed) != seen; })) {
      job_count_.wait(seen);
    }
  }
}

uint32_t DefaultNumThreads() {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  if (sched_getaffinity(0, sizeof mask, &mask) != 0) return 1;
  std::set<std::string> cores;  // processors of one core name the same siblings
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &mask)) continue;
    std::ifstream file("/sys/devices/system/cpu/cpu" + std::to_string(cpu) +
                       "/topology/thread_siblings_list");
    std::string siblings;
    if (!std::getline(file, siblings)) siblings = "cpu" + std::to_string(cpu);
    cores.insert(siblings);
  }
  return cores.empty() ? 1 : static_cast<uint32_t>(cores.size());
}

}  // namespace kvs::cpu
