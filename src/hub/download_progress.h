// DownloadProgress: how far several downloads are together. A bar on a terminal, a line in the log
// now and then elsewhere. It also carries the word from one download that failed to the others.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <string>

#include "base/progress.h"

namespace kvs {

// Thread-safe.
class DownloadProgress {
 public:
  DownloadProgress(const std::string& label, uint64_t bytes_total);

  // Negative when bytes have to be fetched again.
  void Add(int64_t bytes);
  void Stop() { stopped_ = true; }
  bool stopped() const { return stopped_; }

 private:
  const std::string label_;
  const uint64_t bytes_total_;  // 0: not known
  std::atomic<bool> stopped_ = false;

  std::mutex mutex_;
  int64_t bytes_done_ = 0;  // guarded by mutex_, as is what follows
  ProgressBar bar_;
  std::chrono::steady_clock::time_point last_line_;
};

}  // namespace kvs
