#include "hub/download_progress.h"

#include "base/log.h"

namespace kvs {
namespace {

constexpr std::chrono::seconds kBetweenLines{15};
constexpr uint64_t kMebi = 1u << 20;

}  // namespace

DownloadProgress::DownloadProgress(const std::string& label, uint64_t bytes_total)
    : label_(label),
      bytes_total_(bytes_total),
      bar_(label),
      last_line_(std::chrono::steady_clock::now()) {}

void DownloadProgress::Add(int64_t bytes) {
  const std::lock_guard<std::mutex> lock(mutex_);
  bytes_done_ += bytes;
  const auto done = static_cast<uint64_t>(bytes_done_);
  bar_.Update(done, bytes_total_);
  const auto now = std::chrono::steady_clock::now();
  if (bar_.on_terminal() || now - last_line_ < kBetweenLines) return;
  last_line_ = now;
  LOG_INFO("{}: {} of {} MiB", label_, done / kMebi, bytes_total_ / kMebi);
}

}  // namespace kvs
