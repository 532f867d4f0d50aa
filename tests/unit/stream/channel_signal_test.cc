#include "stream/channel_signal.h"

#include <gtest/gtest.h>
#include <poll.h>

#include <chrono>
#include <memory>
#include <thread>
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
