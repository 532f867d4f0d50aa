// A regular file opened for reading. What a model directory holds is untrusted: a FIFO or a device
// under a weight's name is refused instead of waited on.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "kvserve/status.h"

namespace kvs {

class ReadOnlyFile {
 public:
  // kNotFound when it cannot be opened (with the system's reason), kDataError when it is no
  // regular file.
  static Result<ReadOnlyFile> Open(const std::filesystem::path& path);

  ReadOnlyFile(ReadOnlyFile&& other) noexcept;
  ReadOnlyFile& operator=(ReadOnlyFile&& other) noexcept;
  ~ReadOnlyFile();

  int fd() const { return fd_; }
  const std::string& path() const { return path_; }
  uint64_t size() const { return size_; }  // bytes, when it was opened

  // kOsError when the file no longer has the size it was opened with.
  Result<void> CheckSizeUnchanged() const;

 private:
  ReadOnlyFile(int fd, std::string path) : fd_(fd), path_(std::move(path)) {}

  int fd_ = -1;
  std::string path_;
  uint64_t size_ = 0;
};

}  // namespace kvs
