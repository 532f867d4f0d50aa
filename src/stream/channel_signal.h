// ChannelSignal: how the reader of one or several channels (n > 1, several prompts) learns that
// there is something to read. Either a thread waits at it, or it reports to a ReadyQueue, whose
// thread reads for many. Thread-safe.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>

#include "stream/ready_queue.h"

namespace kvs {

class ChannelSignal {
 public:
  // After one or several Push to its channels.
  void Notify();
  // The same for all the signals of a step, of which a ReadyQueue's thread is woken once.
  static void NotifyAll(std::span<const std::shared_ptr<ChannelSignal>> signals);

  // Waits until Notify was called since the last return, or the time is over. False on timeout.
  bool WaitFor(std::chrono::milliseconds timeout);
  // From now on Notify adds `key` to `queue`. What was pushed before is not reported: the reader
  // looks at the channels once after this.
  void ReportTo(std::shared_ptr<ReadyQueue> queue, uint64_t key);

 private:
  // The queue to wake, which this object keeps alive; null when none is told.
  ReadyQueue* Tell();

  std::mutex mutex_;
  std::shared_ptr<ReadyQueue> queue_;  // guarded by mutex_, set once; null: WaitFor
  uint64_t key_ = 0;                   // guarded by mutex_
  bool signalled_ = false;             // guarded by mutex_
  std::condition_variable ready_;
};

}  // namespace kvs
