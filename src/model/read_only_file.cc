#include "model/read_only_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <utility>

namespace kvs {
namespace {

std::string Reason(int error) { return std::generic_category().message(error); }

}  // namespace

Result<ReadOnlyFile> ReadOnlyFile::Open(const std::filesystem::path& path) {
  const std::string name = path.string();
  const int fd = open(name.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return Error(Code::kNotFound, fmt::format("{}: {}", name, Reason(errno)));
  ReadOnlyFile file(fd, name);
  struct stat info;
  if (fstat(fd, &info) != 0) {
    return Error(Code::kOsError, fmt::format("{}: {}", name, Reason(errno)));
  }
  if (!S_ISREG(info.st_mode)) {
    return Error(Code::kDataError, fmt::format("{}: not a regular file", name));
  }
  file.size_ = static_cast<uint64_t>(info.st_size);
  return file;
}

ReadOnlyFile::ReadOnlyFile(ReadOnlyFile&& other) noexcept { *this = std::move(other); }

ReadOnlyFile& ReadOnlyFile::operator=(ReadOnlyFile&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(path_, other.path_);
  std::swap(size_, other.size_);
  return *this;
}

ReadOnlyFile::~ReadOnlyFile() {
  if (fd_ >= 0) close(fd_);
}

Result<void> ReadOnlyFile::CheckSizeUnchanged() const {
  struct stat info;
  if (fstat(fd_, &info) != 0) {
    return Error(Code::kOsError, fmt::format("{}: {}", path_, Reason(errno)));
  }
  if (static_cast<uint64_t>(info.st_size) != size_) {
    return Error(Code::kOsError, fmt::format("{}: changed while it was read: {} bytes, was {}",
                                             path_, info.st_size, size_));
  }
  return {};
}

}  // namespace kvs
