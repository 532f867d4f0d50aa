// TokenChannel: the events of one request, from the engine thread to the one thread that answers
// its client. Bounded: a reader that stays `capacity` events behind has its request cancelled, so
// the engine never waits for a client.
#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <mutex>
#include <vector>

#include "kvserve/token_event.h"
#include "stream/channel_signal.h"

namespace kvs {

class TokenChannel {
 public:
  TokenChannel(size_t capacity, std::shared_ptr<ChannelSignal> signal);

  // Engine thread. False when the reader is `capacity` events behind: the engine then cancels the
  // request. A last event (finish != kNone) is always taken; nothing may follow it. Wakes nobody:
  // signal() is notified once for all the events of a step.
  bool Push(TokenEvent event);
  const std::shared_ptr<ChannelSignal>& signal() const { return signal_; }

  // Reader thread. Moves what has arrived to the end of `out`; true once the last event is out.
  bool TakeAll(std::vector<TokenEvent>& out);

  // Reader thread: the client left, or a stop string matched. The engine sees it at its next step
  // and answers with a last event. Idempotent.
  void Cancel() { cancelled_.store(true, std::memory_order_relaxed); }
  bool cancelled() const { return cancelled_.load(std::memory_order_relaxed); }

 private:
  const size_t capacity_;
  const std::shared_ptr<ChannelSignal> signal_;
  std::atomic<bool> cancelled_{false};
  std::mutex mutex_;
  std::vector<TokenEvent> events_;  // guarded by mutex_
  bool finished_ = false;           // guarded by mutex_
};

}  // namespace kvs
