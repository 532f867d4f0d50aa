#include "base/bounded_queue.h"

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

namespace kvs {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

TEST(BoundedQueue, TakesAllOrNone) {
  BoundedQueue<std::unique_ptr<int>> queue(3);
  std::vector<std::unique_ptr<int>> two;
  two.push_back(std::make_unique<int>(1));
  two.push_back(std::make_unique<int>(2));
  EXPECT_TRUE(queue.TryPushAll(two));

  std::vector<std::unique_ptr<int>> refused;
  refused.push_back(std::make_unique<int>(3));
  refused.push_back(std::make_unique<int>(4));
  EXPECT_FALSE(queue.TryPushAll(refused));
  ASSERT_EQ(refused.size(), 2u);
  EXPECT_NE(refused[0], nullptr);  // left as they were
  EXPECT_EQ(queue.size(), 2u);

  std::vector<std::unique_ptr<int>> out;
  queue.TakeAll(out);
  ASSERT_EQ(out.size(), 2u);
  EXPECT_EQ(*out[0], 1);
  EXPECT_EQ(*out[1], 2);
  EXPECT_TRUE(queue.TryPushAll(refused));
}

TEST(BoundedQueue, CloseRefusesPushesButKeepsWhatWasTaken) {
  BoundedQueue<int> queue(4);
  std::vector<int> items = {7};
  ASSERT_TRUE(queue.TryPushAll(items));
  EXPECT_FALSE(queue.closed());
  queue.Close();
  EXPECT_TRUE(queue.closed());
  EXPECT_FALSE(queue.TryPushAll(items));
  std::vector<int> out;
  queue.TakeAll(out);
  EXPECT_EQ(out, std::vector<int>{7});
}

TEST(BoundedQueue, WaitEndsOnItemWakeCloseOrTimeout) {
  BoundedQueue<int> queue(4);
  const auto start = steady_clock::now();
  queue.WaitFor(milliseconds(20));
  EXPECT_GE(steady_clock::now() - start, milliseconds(20));

  const auto ends_wait = [&](auto action) {
    std::thread other([&] {
      std::this_thread::sleep_for(milliseconds(5));
      action();
    });
    const auto begun = steady_clock::now();
    queue.WaitFor(milliseconds(10'000));
    EXPECT_LT(steady_clock::now() - begun, milliseconds(9'000));
    other.join();
    std::vector<int> out;
    queue.TakeAll(out);
  };
  ends_wait([&] {
    std::vector<int> items = {1};
    EXPECT_TRUE(queue.TryPushAll(items));
  });
  ends_wait([&] { queue.Wake(); });
  ends_wait([&] { queue.Close(); });
}

TEST(BoundedQueue, ManyProducersLoseNothing) {
  constexpr int kProducers = 4;
  constexpr int kEach = 2000;
  BoundedQueue<int> queue(64);
  std::vector<std::thread> producers;
  for (int p = 0; p < kProducers; ++p) {
    producers.emplace_back([&queue, p] {
      for (int i = 0; i < kEach; ++i) {
        std::vector<int> item = {p * kEach + i};
        while (!queue.TryPushAll(item)) std::this_thread::yield();
      }
    });
  }
  std::vector<int> seen(kProducers * kEach, 0);
  std::vector<int> out;
  for (int num_seen = 0; num_seen < kProducers * kEach;) {
    queue.WaitFor(milliseconds(100));
    out.clear();
    queue.TakeAll(out);
    num_seen += static_cast<int>(out.size());
    for (const int item : out) ++seen[item];
  }
  for (std::thread& producer : producers) producer.join();
  for (const int count : seen) EXPECT_EQ(count, 1);
}

}  // namespace
}  // namespace kvs
