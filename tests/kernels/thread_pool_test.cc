#include "cpu/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <ctime>
#include <thread>
#include <vector>

namespace kvs::cpu {
namespace {

TEST(ThreadPool, RunsEveryTaskOnce) {
  for (uint32_t num_threads = 1; num_threads <= 4; ++num_threads) {
    ThreadPool pool(num_threads);
    EXPECT_EQ(pool.num_threads(), num_threads);
    for (uint32_t num_tasks = 0; num_tasks < 200; ++num_tasks) {
      std::vector<int> runs(num_tasks, 0);
      pool.ParallelFor(num_tasks, [&](uint32_t task, uint32_t thread) {
        ASSERT_LT(thread, num_threads);
        ++runs[task];
      });
      EXPECT_EQ(runs, std::vector<int>(num_tasks, 1));
    }
  }
}

TEST(ThreadPool, WritesOfOneJobAreSeenByTheNext) {
  ThreadPool pool(3);
  std::vector<uint64_t> values(64, 0);
  for (uint64_t round = 1; round <= 2000; ++round) {
    pool.ParallelFor(64, [&](uint32_t task, uint32_t) { ++values[task]; });
  }
  for (uint64_t value : values) EXPECT_EQ(value, 2000u);
}

TEST(ThreadPool, SleepingWorkersWakeAndSleepAgain) {
  ThreadPool pool(3);
  std::atomic<int> runs{0};
  for (int i = 0; i < 20; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    pool.ParallelFor(8, [&](uint32_t, uint32_t) { ++runs; });
  }
  EXPECT_EQ(runs, 160);
  const std::clock_t before = std::clock();  // of the process, all threads
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  EXPECT_LT(static_cast<double>(std::clock() - before) / CLOCKS_PER_SEC, 0.05);
}

TEST(ThreadPool, DefaultCountsCores) { EXPECT_GE(DefaultNumThreads(), 1u); }

}  // namespace
}  // namespace kvs::cpu
