#include "hub/download_progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "base/log.h"
#include "base/progress.h"

namespace kvs {
namespace {

using std::chrono::steady_clock;

constexpr std::chrono::seconds kBetweenLogLines{15};
constexpr std::chrono::milliseconds kBetweenDrawings{100};
constexpr uint64_t kMebi = 1u << 20;
constexpr size_t kLabelColumns = 24;  // a line fits 80 columns: one that wraps cannot be replaced

// As wide as the others; a long name keeps its end, where shards differ.
std::string LabelOf(const std::string& name) {
  if (name.size() <= kLabelColumns) return fmt::format("{:<{}}", name, kLabelColumns);
  return "..." + name.substr(name.size() - (kLabelColumns - 3));
}

}  // namespace

DownloadProgress::DownloadProgress(const std::string& label, uint64_t bytes_total)
    : on_terminal_(isatty(STDERR_FILENO) == 1),
      all_{on_terminal_ ? LabelOf(label) : label, bytes_total},
      last_(steady_clock::now()) {}

DownloadProgress::Line* DownloadProgress::Begin(const std::string& name, uint64_t bytes_total) {
  const std::lock_guard<std::mutex> lock(mutex_);
  return &files_.emplace_back(Line{LabelOf(name), bytes_total});
}

void DownloadProgress::Add(Line* line, int64_t bytes) {
  const std::lock_guard<std::mutex> lock(mutex_);
  line->bytes_done += bytes;
  all_.bytes_done += bytes;
  const auto now = steady_clock::now();
  if (on_terminal_ ? now - last_ < kBetweenDrawings : now - last_ < kBetweenLogLines) return;
  last_ = now;
  if (on_terminal_) {
    Draw(nullptr);
  } else {
    LOG_INFO("{}: {} of {} MiB", all_.label, static_cast<uint64_t>(all_.bytes_done) / kMebi,
             all_.bytes_total / kMebi);
  }
}

void DownloadProgress::End(Line* line) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto place = std::find_if(files_.begin(), files_.end(),
                                  [line](const Line& file) { return &file == line; });
  const Line ended = *place;
  files_.erase(place);
  if (on_terminal_) Draw(&ended);
}

void DownloadProgress::Draw(const Line* ended) {
  std::string text;
  if (num_drawn_ > 0) text += fmt::format("\x1b[{}A", num_drawn_);
  const auto add = [&](const Line& line) {
    text += "\r\x1b[K" +
            BarText(line.label, static_cast<uint64_t>(line.bytes_done), line.bytes_total) + "\n";
  };
  if (ended != nullptr) add(*ended);
  for (const Line& file : files_) add(file);
  add(all_);
  num_drawn_ = files_.size() + 1;
  std::fwrite(text.data(), 1, text.size(), stderr);
  std::fflush(stderr);
}

}  // namespace kvs
