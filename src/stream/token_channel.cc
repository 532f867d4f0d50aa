#include "stream/token_channel.h"

#include <utility>

#include "kvserve/check.h"

namespace kvs {

TokenChannel::TokenChannel(size_t capacity, std::shared_ptr<ChannelSignal> signal)
    : capacity_(capacity), signal_(std::move(signal)) {
  KVS_CHECK(capacity_ > 0);
  KVS_CHECK(signal_ != nullptr);
}

bool TokenChannel::Push(TokenEvent event) {
  const std::lock_guard lock(mutex_);
  KVS_CHECK(!finished_);
  const bool last = event.finish != FinishReason::kNone;
  if (!last && events_.size() >= capacity_) return false;
  finished_ = last;
  events_.push_back(std::move(event));
  return true;
}

bool TokenChannel::TakeAll(std::vector<TokenEvent>& out) {
  const std::lock_guard lock(mutex_);
  if (out.empty()) {
    out.swap(events_);
  } else {
    for (TokenEvent& event : events_) out.push_back(std::move(event));
    events_.clear();
  }
  return finished_;
}

}  // namespace kvs
