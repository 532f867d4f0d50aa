// SIGTERM and SIGINT, taken by a thread of their own. While the daemon loads, a signal ends the
// process at once; while it serves, the first asks for a drain and the second for an abort.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>

namespace kvs {

class ShutdownSignals {
 public:
  // Blocks the signals in this thread and in every thread made after it, ignores SIGPIPE.
  ShutdownSignals();
  ~ShutdownSignals();
  ShutdownSignals(const ShutdownSignals&) = delete;
  ShutdownSignals& operator=(const ShutdownSignals&) = delete;

  // From here on signals are counted rather than deadly.
  void EnterServing();
  // Waits for the first signal; returns its name.
  std::string WaitFirst();
  // True once a second signal came; waits for at most `timeout`.
  bool WaitSecond(std::chrono::milliseconds timeout);
  // Counts as a signal: the server ended by itself.
  void Raise();

 private:
  void Run();
  void Count(const char* name);

  std::mutex mutex_;
  std::condition_variable changed_;
  bool serving_ = false;   // guarded by mutex_
  bool stopping_ = false;  // guarded by mutex_
  int num_signals_ = 0;    // guarded by mutex_
  std::string first_;      // guarded by mutex_
  std::thread thread_;
};

}  // namespace kvs
