// A progress bar on a terminal, one line that redraws itself; nothing at all elsewhere.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace kvs {

// "LABEL [####....]  50% of 12 MiB": what a bar looks like. The unit is bytes shown as MiB, unless
// told otherwise; a `total` of 0 is not known.
std::string BarText(const std::string& label, uint64_t done, uint64_t total,
                    const char* unit = "MiB", double per_unit = 1 << 20);

class ProgressBar {
 public:
  explicit ProgressBar(std::string label, const char* unit = "MiB", double per_unit = 1 << 20);
  ~ProgressBar();  // ends the line
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  bool on_terminal() const { return on_terminal_; }
  // Redraws at most ten times a second, and at the end.
  void Update(uint64_t done, uint64_t total);

 private:
  const std::string label_;
  const char* const unit_;
  const double per_unit_;
  const bool on_terminal_;
  bool drawn_ = false;
  std::chrono::steady_clock::time_point last_{};
};

}  // namespace kvs
