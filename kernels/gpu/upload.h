// Host memory to device memory at the speed of the link: several threads copy (or convert) pieces
// into pinned buffers of their own, from where the device fetches them while the next piece is
// prepared.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "gpu/gpu.h"
#include "kvserve/dtype.h"
#include "kvserve/status.h"

namespace kvs::gpu {

class Uploader {
 public:
  explicit Uploader(int device_index) : device_index_(device_index) {}
  Uploader(const Uploader&) = delete;
  Uploader& operator=(const Uploader&) = delete;
  ~Uploader() { Release(); }

  // Writes `count` values, stored as `from`, to `device` as `to`: kBf16 or kF16, or as they are
  // where the two are the same. Complete when it returns. kOsError when the pinned buffers cannot
  // be had.
  Result<void> Upload(void* device, DType to, const void* host, DType from, size_t count);
  // Gives the pinned buffers back.
  void Release();

 private:
  // One thread's stream and buffers.
  struct Lane {
    Stream stream{};
    std::byte* pinned[2] = {};
    Event fetched[2] = {};  // the device has read pinned[i]
  };
  Result<void> Reserve();

  const int device_index_;
  std::vector<Lane> lanes_;
};

}  // namespace kvs::gpu
