// How far several downloads are: on a terminal a bar for each file in flight and one for all,
// elsewhere a line in the log now and then. It also carries the word from one download that failed
// to the others.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <list>
#include <mutex>
#include <string>

namespace kvs {

// Thread-safe.
class DownloadProgress {
 public:
  // `bytes_total` of all files; 0: not known.
  DownloadProgress(const std::string& label, uint64_t bytes_total);

  void Stop() { stopped_ = true; }
  bool stopped() const { return stopped_; }

 private:
  friend class FileProgress;
  struct Line {
    std::string label;
    uint64_t bytes_total;
    int64_t bytes_done = 0;
  };

  Line* Begin(const std::string& name, uint64_t bytes_total);
  void Add(Line* line, int64_t bytes);
  void End(Line* line);
  // Draws every line anew, where they stood; `ended` then stays above them. Holds mutex_.
  void Draw(const Line* ended);

  const bool on_terminal_;
  std::atomic<bool> stopped_ = false;

  std::mutex mutex_;
  Line all_;  // guarded by mutex_, as is what follows
  std::list<Line> files_;
  size_t num_drawn_ = 0;  // lines on the terminal that the next drawing replaces
  std::chrono::steady_clock::time_point last_;
};

// One file of them, as long as it is fetched. Used by one thread.
class FileProgress {
 public:
  // `all` outlives it.
  FileProgress(DownloadProgress& all, const std::string& name, uint64_t bytes_total)
      : all_(all), line_(all.Begin(name, bytes_total)) {}
  FileProgress(const FileProgress&) = delete;
  FileProgress& operator=(const FileProgress&) = delete;
  ~FileProgress() { all_.End(line_); }

  // Negative when bytes have to be fetched again.
  void Add(int64_t bytes) { all_.Add(line_, bytes); }
  bool stopped() const { return all_.stopped(); }

 private:
  DownloadProgress& all_;
  DownloadProgress::Line* const line_;
};

}  // namespace kvs
