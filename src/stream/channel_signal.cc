#include "stream/channel_signal.h"

#include <utility>

#include "kvserve/check.h"

namespace kvs {

ReadyQueue* ChannelSignal::Tell() {
  {
    const std::lock_guard lock(mutex_);
    if (queue_ != nullptr) {
      queue_->Add(key_);
      return queue_.get();
    }
    signalled_ = true;
  }
  ready_.notify_one();
  return nullptr;
}

void ChannelSignal::Notify() {
  if (ReadyQueue* queue = Tell()) queue->Wake();
}

void ChannelSignal::NotifyAll(std::span<const std::shared_ptr<ChannelSignal>> signals) {
  constexpr size_t kAhead = 4;  // each lies elsewhere, and the step before it was long ago
  ReadyQueue* told = nullptr;
  for (size_t i = 0; i < signals.size(); ++i) {
    if (i + kAhead < signals.size()) __builtin_prefetch(signals[i + kAhead].get(), 1);
    ReadyQueue* queue = signals[i]->Tell();
    if (queue == nullptr || queue == told) continue;
    if (told != nullptr) told->Wake();
    told = queue;
  }
  if (told != nullptr) told->Wake();
}

bool ChannelSignal::WaitFor(std::chrono::milliseconds timeout) {
  std::unique_lock lock(mutex_);
  const bool in_time = ready_.wait_for(lock, timeout, [&] { return signalled_; });
  signalled_ = false;
  return in_time;
}

void ChannelSignal::ReportTo(std::shared_ptr<ReadyQueue> queue, uint64_t key) {
  const std::lock_guard lock(mutex_);
  KVS_CHECK(queue_ == nullptr);
  queue_ = std::move(queue);
  key_ = key;
}

}  // namespace kvs
