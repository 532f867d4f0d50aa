#include "stream/ready_queue.h"

#include <sys/eventfd.h>

#include "kvserve/check.h"

namespace kvs {

ReadyQueue::ReadyQueue() : event_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  KVS_CHECK(event_.valid());
}

void ReadyQueue::Add(uint64_t key) {
  const std::lock_guard lock(mutex_);
  keys_.push_back(key);
}

void ReadyQueue::Wake() {
  // Cannot fail: nobody wakes 2^64 times.
  KVS_CHECK(eventfd_write(event_.get(), 1) == 0);
}

void ReadyQueue::TakeAll(std::vector<uint64_t>& keys) {
  keys.clear();
  const std::lock_guard lock(mutex_);
  keys.swap(keys_);
}

}  // namespace kvs
