// A progress bar on a terminal, one line that redraws itself; nothing at all elsewhere.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace kvs {

class ProgressBar {
 public:
  explicit ProgressBar(std::string label);
  ~ProgressBar();  // ends the line
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  // Redraws at most ten times a second, and at the end.
  void Update(uint64_t bytes_done, uint64_t bytes_total);

 private:
  const std::string label_;
  const bool on_terminal_;
  bool drawn_ = false;
  std::chrono::steady_clock::time_point last_{};
};

}  // namespace kvs
