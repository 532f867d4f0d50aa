#include "base/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

namespace kvs {
namespace {

constexpr int kWidth = 32;
constexpr double kMebi = 1024.0 * 1024.0;

}  // namespace

ProgressBar::ProgressBar(std::string label)
    : label_(std::move(label)), on_terminal_(isatty(STDERR_FILENO) == 1) {}

ProgressBar::~ProgressBar() {
  if (drawn_) std::fputc('\n', stderr);
}

void ProgressBar::Update(uint64_t bytes_done, uint64_t bytes_total) {
  if (!on_terminal_ || bytes_total == 0) return;
  const auto now = std::chrono::steady_clock::now();
  if (drawn_ && bytes_done < bytes_total && now - last_ < std::chrono::milliseconds(100)) return;
  last_ = now;
  drawn_ = true;
  const double share =
      std::min(1.0, static_cast<double>(bytes_done) / static_cast<double>(bytes_total));
  const int filled = static_cast<int>(share * kWidth);
  fmt::print(stderr, "\r{} [{}{}] {:3.0f}% of {:.0f} MiB", label_, std::string(filled, '#'),
             std::string(kWidth - filled, '.'), share * 100.0,
             static_cast<double>(bytes_total) / kMebi);
  std::fflush(stderr);
}

}  // namespace kvs
