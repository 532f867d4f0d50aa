// From a WeightSource into a backend's memory. A network first lists its weights, in the order in
// which they are then read: so the source can read ahead, and the whole is known before it is
// begun. One fused weight is loaded at a time, so that no more than one of them exists twice.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

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

  // Matrices are held as `dtype`; `progress` may be empty.
  WeightLoader(DType dtype, Progress progress) : dtype_(dtype), progress_(std::move(progress)) {}

  // The parts' rows on top of one another, each [rows, cols]. `to` must stay where it is until Load
  // returns. Held as FP8 where it is stored so, the backend can, and `why_not_fp8` is empty.
  void AddLinear(std::unique_ptr<LinearWeight>& to, std::vector<Part> parts, uint32_t cols,
                 std::string why_not_fp8);
  // The parts behind one another, each [rows], as float32.
  void AddVector(DeviceBuffer& to, std::vector<Part> parts);

  Result<void> Load(WeightSource& source, Backend& backend);

  // What was loaded, in the backend's memory; before Load, as if nothing were FP8.
  uint64_t total_bytes() const { return total_bytes_; }

 private:
  struct Item {
    std::unique_ptr<LinearWeight>* linear;  // or
    DeviceBuffer* vector;
    std::vector<Part> parts;
    uint32_t cols;  // 1 for a vector
    std::string why_not_fp8;
    uint64_t bytes;
  };

  void Add(Item item, size_t element_bytes);
  Result<void> LoadLinear(const Item& item, WeightSource& source, Backend& backend);
  // Why the item is not held as FP8; empty where it is.
  static std::string WhyNoFp8(const Item& item, const WeightSource& source, const Backend& backend);
  void LogFp8() const;
  Result<void> LoadVector(const Item& item, WeightSource& source, Backend& backend) const;

  const DType dtype_;
  const Progress progress_;
  std::vector<Item> items_;
  uint64_t total_bytes_ = 0;
  uint32_t num_fp8_ = 0;                         // matrices held as FP8
  std::map<std::string, uint32_t> dequantized_;  // how many for which reason
};

}  // namespace kvs
