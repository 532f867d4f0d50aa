#include "model/read_ahead.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>

namespace kvs {
namespace {

constexpr size_t kBufferBytes = size_t{1} << 20;

// Reads the range for its effect on the system's cache. Returns the bytes that were there.
uint64_t Touch(const ReadAhead::Range& range, std::vector<std::byte>& buffer) {
  uint64_t at = range.begin;
  while (at < range.end) {
    const size_t count = std::min<uint64_t>(buffer.size(), range.end - at);
    const ssize_t got = pread(range.fd, buffer.data(), count, static_cast<off_t>(at));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    at += static_cast<uint64_t>(got);
  }
  return at - range.begin;
}

}  // namespace

ReadAhead::ReadAhead(const std::vector<Range>& ranges, const Options& options)
    : window_(std::max(options.window, options.piece)) {
  uint64_t total = 0;
  for (const Range& range : ranges) {
    for (uint64_t at = range.begin; at < range.end; at += options.piece) {
      const uint64_t end = std::min(at + options.piece, range.end);
      total += end - at;
      pieces_.push_back({{range.fd, at, end}, total});
    }
  }
  for (uint32_t i = 0; i < options.num_threads; ++i) {
    threads_.emplace_back([this] { Run(); });
  }
}

ReadAhead::~ReadAhead() {
  {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void ReadAhead::Used(uint64_t bytes) {
  {
    const std::lock_guard lock(mutex_);
    used_ += bytes;
  }
  changed_.notify_all();
}

bool ReadAhead::WaitFor(const Piece& piece) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return stopped_ || piece.end <= used_ + window_; });
  return !stopped_;
}

void ReadAhead::Run() {
  std::vector<std::byte> buffer(kBufferBytes);
  while (true) {
    const size_t index = next_++;
    if (index >= pieces_.size() || !WaitFor(pieces_[index])) return;
    bytes_read_ += Touch(pieces_[index].range, buffer);
  }
}

}  // namespace kvs
