// ChannelSignal: how the reader of one or several channels (n > 1, several prompts) learns that
// there is something to read. Either a thread waits at it, or it reports to a ReadyQueue, whose
// thread reads for many. Thread-safe.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>

#include "stream/ready_queue.h"

namespace kvs {

class ChannelSignal {
 public:
  // After one or several Push to its channels: once a step is enough.
  void Notify();

  // Waits until Notify was called since the last return, or the time is over. False on timeout.
  bool WaitFor(std::chrono::milliseconds timeout);
  // From now on Notify adds `key` to `queue`. What was pushed before is not reported: the reader
  // looks once after this. Of a call at the same time as a Push, one of the two sees the event.
  void ReportTo(std::shared_ptr<ReadyQueue> queue, uint64_t key);

 private:
  std::mutex mutex_;
  std::condition_variable ready_;
  bool signalled_ = false;             // guarded by mutex_
  std::shared_ptr<ReadyQueue> queue_;  // guarded by mutex_; null: WaitFor
  uint64_t key_ = 0;                   // guarded by mutex_
};

}  // namespace kvs
