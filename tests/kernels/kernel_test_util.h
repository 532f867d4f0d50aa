// What the kernel tests share: backends of every instruction set this processor has, seeded inputs,
// comparisons.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "cpu/cpu_features.h"
#include "kvserve/backend.h"

namespace kvs {

inline std::vector<std::string> InstructionSets() {
#if defined(__SANITIZE_THREAD__)
  // All split their work alike, and the slow ones take minutes more.
  return {std::string(cpu::ToString(cpu::BestInstructionSet()))};
#endif
  std::vector<std::string> sets;
  for (const auto set : cpu::kInstructionSets) {
    if (set <= cpu::BestInstructionSet()) sets.emplace_back(cpu::ToString(set));
  }
  return sets;
}

inline cpu::InstructionSet InstructionSetNamed(const std::string& name) {
  for (const auto set : cpu::kInstructionSets) {
    if (cpu::ToString(set) == name) return set;
  }
  ADD_FAILURE() << name;
  return cpu::InstructionSet::kPortable;
}

// Where bf16 operands are multiplied as they are, so that inputs are rounded to bf16.
inline bool HasBf16Products(const std::string& set) {
  return InstructionSetNamed(set) >= cpu::InstructionSet::kAvx512;
}

inline std::unique_ptr<Backend> MakeBackend(const std::string& set, uint32_t num_threads) {
  auto backend = MakeCpuBackend({.num_threads = num_threads, .instruction_set = set});
  EXPECT_TRUE(backend) << backend.error().message();
  return std::move(*backend);
}

class Random {
 public:
  explicit Random(uint64_t seed) : engine_(seed) {}
  std::vector<float> Normals(size_t n, float deviation = 1.0f) {
    std::normal_distribution<float> distribution(0.0f, deviation);
    std::vector<float> values(n);
    for (float& value : values) value = distribution(engine_);
    return values;
  }
  uint32_t Below(uint32_t n) { return std::uniform_int_distribution<uint32_t>(0, n - 1)(engine_); }
  std::mt19937_64& engine() { return engine_; }

 private:
  std::mt19937_64 engine_;
};

inline bool SameBits(const float* a, const float* b, size_t n) {
  return std::memcmp(a, b, n * sizeof(float)) == 0;
}

// Largest |got - want| over the root mean square of `want`.
template <class Want>
double RelativeError(const std::vector<float>& got, const std::vector<Want>& want) {
  EXPECT_EQ(got.size(), want.size());
  double squares = 0;
  double largest = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    squares += static_cast<double>(want[i]) * want[i];
    const double error = std::abs(got[i] - static_cast<double>(want[i]));
    if (!(error <= largest)) largest = error;  // keeps NaN
  }
  return largest / std::sqrt(squares / static_cast<double>(want.size()));
}

}  // namespace kvs
