#include "stream/channel_signal.h"

#include <utility>

namespace kvs {

void ChannelSignal::Notify() {
  {
    const std::lock_guard lock(mutex_);
    if (queue_ != nullptr) return queue_->Add(key_);
    signalled_ = true;
  }
  ready_.notify_one();
}

bool ChannelSignal::WaitFor(std::chrono::milliseconds timeout) {
  std::unique_lock lock(mutex_);
  const bool in_time = ready_.wait_for(lock, timeout, [&] { return signalled_; });
  signalled_ = false;
  return in_time;
}

void ChannelSignal::ReportTo(std::shared_ptr<ReadyQueue> queue, uint64_t key) {
  const std::lock_guard lock(mutex_);
  queue_ = std::move(queue);
  key_ = key;
}

}  // namespace kvs
