// A directory in memory for fuzzers whose subject reads files: what is written there never reaches
// a disk. One for each process; removed when it ends in order.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "kvserve/check.h"

namespace kvs {

class ScratchDir {
 public:
  ScratchDir() {
    const bool in_memory = access("/dev/shm", W_OK) == 0;
    std::string pattern = in_memory ? "/dev/shm/kvserve_fuzz_XXXXXX" : "/tmp/kvserve_fuzz_XXXXXX";
    KVS_CHECK(mkdtemp(pattern.data()) != nullptr);
    path_ = pattern;
  }
  ~ScratchDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  ScratchDir(const ScratchDir&) = delete;
  ScratchDir& operator=(const ScratchDir&) = delete;

  const std::filesystem::path& path() const { return path_; }

  // Replaces the file `name` and returns its path.
  std::filesystem::path Write(const char* name, const uint8_t* data, size_t size) const {
    const std::filesystem::path path = path_ / name;
    const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    KVS_CHECK(fd >= 0);
    for (size_t done = 0; done < size;) {
      const ssize_t written = write(fd, data + done, size - done);
      KVS_CHECK(written > 0);
      done += static_cast<size_t>(written);
    }
    close(fd);
    return path;
  }

 private:
  std::filesystem::path path_;
};

}  // namespace kvs
