#include "base/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

namespace kvs {
namespace {

constexpr int kWidth = 32;

}  // namespace

std::string BarText(const std::string& label, uint64_t done, uint64_t total, const char* unit,
                    double per_unit) {
  const double share =
      total == 0 ? 0.0 : std::min(1.0, static_cast<double>(done) / static_cast<double>(total));
  const int filled = static_cast<int>(share * kWidth);
  return fmt::format("{} [{}{}] {:3.0f}% of {:.0f} {}", label, std::string(filled, '#'),
                     std::string(kWidth - filled, '.'), share * 100.0,
                     static_cast<double>(total) / per_unit, unit);
}

ProgressBar::ProgressBar(std::string label, const char* unit, double per_unit)
    : label_(std::move(label)),
      unit_(unit),
      per_unit_(per_unit),
      on_terminal_(isatty(STDERR_FILENO) == 1) {}

ProgressBar::~ProgressBar() {
  if (drawn_) std::fputc('\n', stderr);
}

void ProgressBar::Update(uint64_t done, uint64_t total) {
  if (!on_terminal_ || total == 0) return;
  const auto now = std::chrono::steady_clock::now();
  if (drawn_ && done < total && now - last_ < std::chrono::milliseconds(100)) return;
  last_ = now;
  drawn_ = true;
  fmt::print(stderr, "\r{}", BarText(label_, done, total, unit_, per_unit_));
  std::fflush(stderr);
}

}  // namespace kvs
