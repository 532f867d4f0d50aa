// ConnectionThreads: one thread per open connection, kept for reuse for a while. Grows to a limit;
// beyond it the answer is false.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <vector>

namespace kvs {

class ConnectionThreads {
 public:
  explicit ConnectionThreads(size_t max_threads) : max_threads_(max_threads) {}
  ~ConnectionThreads() { Join(); }

  // Runs `task` on an idle or a new thread. False when every thread is busy and no other may be
  // made. Called by one thread.
  bool Start(std::function<void()> task);
  // Waits for every task. No Start may follow.
  void Join();

 private:
  void Work(uint64_t key);
  // Joins the threads that have ended.
  void Reap();

  const size_t max_threads_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<std::function<void()>> waiting_;         // guarded by mutex_; one per woken thread
  size_t num_idle_ = 0;                                // guarded by mutex_; not yet promised a task
  bool joining_ = false;                               // guarded by mutex_
  uint64_t next_key_ = 0;                              // guarded by mutex_
  std::unordered_map<uint64_t, std::thread> threads_;  // guarded by mutex_
  std::vector<std::thread> ended_;                     // guarded by mutex_
};

}  // namespace kvs
