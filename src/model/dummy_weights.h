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
  // With `fp8_layers`, the matrices of layers are stored as FP8.
  DummyWeights(uint64_t seed, DType dtype, bool fp8_layers = false)
      : seed_(seed), dtype_(dtype), fp8_layers_(fp8_layers) {}

  Result<HostMatrix> Matrix(const std::string& name, uint32_t rows, uint32_t cols) override;
  std::string WhyNotFp8(const std::string& name, uint32_t rows, uint32_t cols) const override;
  Result<HostMatrix> Fp8Matrix(const std::string& name, uint32_t rows, uint32_t cols) override;
  uint32_t num_dequantized() const override { return num_dequantized_; }
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
  const bool fp8_layers_;
  uint32_t num_dequantized_ = 0;
  std::vector<Block> blocks_;
};

}  // namespace kvs
