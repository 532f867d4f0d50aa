// ReadyQueue: tells one thread which of the many readers that it serves have something to read.
// Thread-safe.
#pragma once

#include <cstdint>
#include <mutex>
#include <vector>

#include "base/file_descriptor.h"

namespace kvs {

class ReadyQueue {
 public:
  ReadyQueue();

  // Wakes nobody: Wake follows, once for all that a step adds. Neither waits.
  void Add(uint64_t key);
  void Wake();
  // Replaces `keys` by what was added since; a key may be there more than once.
  void TakeAll(std::vector<uint64_t>& keys);

  // For epoll with EPOLLET: an edge comes with each Wake. Never read.
  int fd() const { return event_.get(); }

 private:
  const FileDescriptor event_;
  std::mutex mutex_;
  std::vector<uint64_t> keys_;  // guarded by mutex_
};

}  // namespace kvs
