// Random weights of any shape, for measuring a network's speed without its checkpoint. Matrices are
// uniform with standard deviation 0.02, norms are 1 and biases 0; a
// tensor is a function of seed and name alone, however many threads make it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "model/weight_source.h"

namespace kvs {

class DummyWeights : public WeightSource {
 public:
  DummyWeights(uint64_t seed, DType dtype) : seed_(seed), dtype_(dtype) {}

  Result<HostMatrix> Matrix(const std::string& name, uint32_t rows, uint32_t cols) override;
  Result<HostMatrix> Vector(const std::string& name, uint32_t size) override;
  void Release() override;
  Result<void> Finish(bool (*)(std::string_view name)) override { return {}; }

 private:
  struct Block {
    std::unique_ptr<uint32_t[]> memory;
    size_t words;
    size_t used;
  };

  // Memory for one tensor, not set, valid until Release.
  void* Take(size_t bytes);

  const uint64_t seed_;
  const DType dtype_;
  std::vector<Block> blocks_;
};

}  // namespace kvs
