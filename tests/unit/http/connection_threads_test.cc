#include "http/connection_threads.h"

#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <mutex>

namespace kvs {
namespace {

class Gate {
 public:
  void Open() {
    const std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  void Wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return open_; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = false;
};

TEST(ConnectionThreads, RunsAllAtOnceUpToTheLimit) {
  ConnectionThreads threads(3);
  Gate gate;
  std::atomic<int> num_done{0};
  const auto task = [&] {
    gate.Wait();
    ++num_done;
  };
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(threads.Start(task));
  EXPECT_FALSE(threads.Start(task));
  gate.Open();
  threads.Join();
  EXPECT_EQ(num_done, 3);
}

TEST(ConnectionThreads, ThreadsAreUsedAgain) {
  ConnectionThreads threads(2);
  std::atomic<int> num_done{0};
  for (int i = 0; i < 2000; ++i) {
    while (!threads.Start([&] { ++num_done; })) std::this_thread::yield();
  }
  threads.Join();
  EXPECT_EQ(num_done, 2000);
}

TEST(ConnectionThreads, JoinWithoutWork) {
  ConnectionThreads threads(2);
  threads.Join();
}

}  // namespace
}  // namespace kvs
