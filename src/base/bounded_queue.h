// A bounded queue from many producers to one consumer. Shortage is an answer, never a wait: a full
// queue refuses.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <mutex>
#include <utility>
#include <vector>

namespace kvs {

template <class T>
class BoundedQueue {
 public:
  explicit BoundedQueue(size_t capacity) : capacity_(capacity) {}

  // Takes all items or none. False when they do not fit or the queue is closed; the items are then
  // left as they were.
  bool TryPushAll(std::vector<T>& items) {
    {
      const std::lock_guard lock(mutex_);
      if (closed_ || items_.size() + items.size() > capacity_) return false;
      for (T& item : items) items_.push_back(std::move(item));
    }
    ready_.notify_one();
    return true;
  }

  // Moves every item to the end of `out`, without waiting.
  void TakeAll(std::vector<T>& out) {
    const std::lock_guard lock(mutex_);
    for (T& item : items_) out.push_back(std::move(item));
    items_.clear();
    woken_ = false;
  }

  // Waits until there is an item, Wake or Close was called, or the time is over.
  void WaitFor(std::chrono::milliseconds timeout) {
    std::unique_lock lock(mutex_);
    ready_.wait_for(lock, timeout, [this] { return !items_.empty() || woken_ || closed_; });
  }

  void Wake() {
    {
      const std::lock_guard lock(mutex_);
      woken_ = true;
    }
    ready_.notify_one();
  }

  // From here on every push is refused; what was taken before can still be taken out.
  void Close() {
    {
      const std::lock_guard lock(mutex_);
      closed_ = true;
    }
    ready_.notify_all();
  }

  // Once true, what TakeAll then finds is the last there will ever be.
  bool closed() const {
    const std::lock_guard lock(mutex_);
    return closed_;
  }

  size_t size() const {
    const std::lock_guard lock(mutex_);
    return items_.size();
  }

 private:
  const size_t capacity_;
  mutable std::mutex mutex_;
  std::condition_variable ready_;
  std::deque<T> items_;  // guarded by mutex_
  bool woken_ = false;   // guarded by mutex_
  bool closed_ = false;  // guarded by mutex_
};

}  // namespace kvs
