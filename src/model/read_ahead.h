// ReadAhead: threads that read files into the system's cache in the order in which their bytes will
// be used, so that the disk (or the network file system) has several requests to work on while
// weights are packed. They stay at most `window` bytes before what was used: memory stays bounded.
//
// A failed read is not reported here: whoever uses the bytes meets it.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

namespace kvs {

class ReadAhead {
 public:
  // Bytes [begin, end) of an open file, which must stay open as long as this lives.
  struct Range {
    int fd;
    uint64_t begin;
    uint64_t end;
  };
  struct Options {
    uint32_t num_threads = 4;
    uint64_t window = uint64_t{512} << 20;
    uint64_t piece = uint64_t{4} << 20;  // bytes that one thread reads at a time
  };

  ReadAhead(const std::vector<Range>& ranges, const Options& options);
  ReadAhead(const ReadAhead&) = delete;
  ReadAhead& operator=(const ReadAhead&) = delete;
  ~ReadAhead();  // stops the threads, whatever is left

  // The next `bytes` of the ranges were used.
  void Used(uint64_t bytes);

  uint64_t bytes_read() const { return bytes_read_; }

 private:
  struct Piece {
    Range range;
    uint64_t end;  // bytes of all pieces up to its own end
  };

  void Run();
  // Waits until the piece lies within the window; false when it is time to stop.
  bool WaitFor(const Piece& piece);

  const uint64_t window_;
  std::vector<Piece> pieces_;
  std::atomic<size_t> next_{0};
  std::atomic<uint64_t> bytes_read_{0};
  std::mutex mutex_;
  std::condition_variable changed_;
  uint64_t used_ = 0;     // guarded by mutex_
  bool stopped_ = false;  // guarded by mutex_
  std::vector<std::thread> threads_;
};

}  // namespace kvs
