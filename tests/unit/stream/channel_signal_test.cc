#include "stream/channel_signal.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <unistd.h>

#include <chrono>
#include <memory>
#include <vector>

#include "stream/ready_queue.h"

namespace kvs {
namespace {

using std::chrono::milliseconds;

bool Readable(int fd, int timeout_ms = 0) {
  pollfd event = {fd, POLLIN, 0};
  return poll(&event, 1, timeout_ms) == 1;
}

TEST(ChannelSignal, WaitsForTheNextNotify) {
  ChannelSignal signal;
  EXPECT_FALSE(signal.WaitFor(milliseconds(1)));
  signal.Notify();
  signal.Notify();
  EXPECT_TRUE(signal.WaitFor(milliseconds(0)));
  EXPECT_FALSE(signal.WaitFor(milliseconds(1)));
}

TEST(ChannelSignal, ReportsToAQueueOnceItIsTold) {
  const auto queue = std::make_shared<ReadyQueue>();
  std::vector<uint64_t> keys;
  ChannelSignal signal;
  signal.Notify();
  signal.ReportTo(queue, 7);
  queue->TakeAll(keys);
  EXPECT_TRUE(keys.empty()) << "what came before is the reader's to look for";
  EXPECT_FALSE(Readable(queue->fd()));
  signal.Notify();
  EXPECT_TRUE(Readable(queue->fd()));
  queue->TakeAll(keys);
  EXPECT_EQ(keys, std::vector<uint64_t>{7});
}

// Waits on a condition variable, or in a queue: a queue is woken once for all of its signals.
TEST(ChannelSignal, NotifyAllTellsEveryReader) {
  const auto queue = std::make_shared<ReadyQueue>();
  std::vector<std::shared_ptr<ChannelSignal>> signals;
  for (uint64_t key = 0; key < 20; ++key) {
    signals.push_back(std::make_shared<ChannelSignal>());
    if (key % 2 == 0) signals.back()->ReportTo(queue, key);
  }
  ChannelSignal::NotifyAll(signals);
  uint64_t num_wakes = 0;
  EXPECT_EQ(read(queue->fd(), &num_wakes, sizeof num_wakes), 8);
  EXPECT_EQ(num_wakes, 1u);
  std::vector<uint64_t> keys;
  queue->TakeAll(keys);
  EXPECT_EQ(keys, (std::vector<uint64_t>{0, 2, 4, 6, 8, 10, 12, 14, 16, 18}));
  for (size_t i = 1; i < signals.size(); i += 2) {
    EXPECT_TRUE(signals[i]->WaitFor(milliseconds(0))) << i;
  }
}

TEST(ReadyQueue, KeepsTheOrderAndForgetsWhatWasTaken) {
  ReadyQueue queue;
  std::vector<uint64_t> keys = {1};
  for (const uint64_t key : {3, 1, 3}) queue.Add(key);
  queue.TakeAll(keys);
  EXPECT_EQ(keys, (std::vector<uint64_t>{3, 1, 3}));
  queue.TakeAll(keys);
  EXPECT_TRUE(keys.empty());
}

}  // namespace
}  // namespace kvs
