// Timing of kernels while the process starts.
#pragma once

#include <algorithm>
#include <limits>

#include "gpu/gpu.h"

namespace kvs::gpu {

// Milliseconds of device time between Start and StopMs.
class Timer {
 public:
  Timer() {
    KVS_GPU(EventCreate(&begin_));
    KVS_GPU(EventCreate(&end_));
  }
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;
  ~Timer() {
    static_cast<void>(KVS_GPU_NAME(EventDestroy)(begin_));
    static_cast<void>(KVS_GPU_NAME(EventDestroy)(end_));
  }
  void Start(Stream stream) { KVS_GPU(EventRecord(begin_, stream)); }
  double StopMs(Stream stream) {
    float ms = 0;
    KVS_GPU(EventRecord(end_, stream));
    KVS_GPU(EventSynchronize(end_));
    KVS_GPU(EventElapsedTime(&ms, begin_, end_));
    return ms;
  }

 private:
  Event begin_, end_;
};

// The better of two passes of `run`, the first of which also loads its kernels; infinite when `run`
// returns false.
template <class F>
double BestMs(Stream stream, F&& run) {
  Timer timer;
  double best = std::numeric_limits<double>::infinity();
  for (int pass = 0; pass < 2; ++pass) {
    timer.Start(stream);
    if (!run()) return std::numeric_limits<double>::infinity();
    best = std::min(best, timer.StopMs(stream));
  }
  return best;
}

// Device memory for the time of tuning; null when it cannot be had.
class Scratch {
 public:
  explicit Scratch(size_t bytes) {
    if (KVS_GPU_NAME(Malloc)(&data_, bytes) != kSuccess) {
      static_cast<void>(KVS_GPU_NAME(GetLastError)());
      data_ = nullptr;
      return;
    }
    KVS_GPU(Memset(data_, 0x3c, bytes));  // small numbers in both 16-bit types
    KVS_GPU(DeviceSynchronize());         // before other streams use it
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() { static_cast<void>(KVS_GPU_NAME(Free)(data_)); }
  void* data() const { return data_; }

 private:
  void* data_ = nullptr;
};

}  // namespace kvs::gpu
