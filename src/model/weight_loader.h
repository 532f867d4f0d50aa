// From a WeightSource into a backend's memory, one fused weight at a time, so that no more than one
// of them exists twice.
#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <string>

#include "kvserve/backend.h"
#include "kvserve/status.h"
#include "model/weight_source.h"

namespace kvs {

class WeightLoader {
 public:
  using Progress = std::function<void(uint64_t bytes_done, uint64_t bytes_total)>;
  struct Part {
    std::string name;
    uint32_t rows;
  };

  // `bytes_total` is what the network will hold; `progress` may be empty.
  WeightLoader(WeightSource& source, Backend& backend, DType dtype, uint64_t bytes_total,
               Progress progress)
      : source_(source),
        backend_(backend),
        dtype_(dtype),
        bytes_total_(bytes_total),
        progress_(std::move(progress)) {}

  // The parts' rows on top of one another, each [rows, cols], packed as the loader's dtype.
  Result<std::unique_ptr<LinearWeight>> Linear(std::initializer_list<Part> parts, uint32_t cols);
  // [size] float32, whatever the loader's dtype is.
  Result<DeviceBuffer> Norm(const std::string& name, uint32_t size);

  uint64_t bytes_done() const { return bytes_done_; }

 private:
  void Advance(uint64_t bytes);

  WeightSource& source_;
  Backend& backend_;
  const DType dtype_;
  const uint64_t bytes_total_;
  const Progress progress_;
  uint64_t bytes_done_ = 0;
};

}  // namespace kvs
