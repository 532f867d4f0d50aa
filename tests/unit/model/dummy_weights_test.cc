#include "model/dummy_weights.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "kvserve/float_bits.h"

namespace kvs {
namespace {

float ValueAt(const HostMatrix& matrix, size_t i) {
  switch (matrix.dtype) {
    case DType::kBf16:
      return Bf16ToFloat(static_cast<const uint16_t*>(matrix.data)[i]);
    case DType::kF16:
      return F16ToFloat(static_cast<const uint16_t*>(matrix.data)[i]);
    case DType::kF32:
      return static_cast<const float*>(matrix.data)[i];
    case DType::kF8E4M3:
      return F8E4M3ToFloat(static_cast<const uint8_t*>(matrix.data)[i]) *
             matrix.row_scales[i / matrix.cols];
  }
  return 0.0f;
}

TEST(DummyWeightsTest, AreSpreadAroundZero) {
  for (const DType dtype : {DType::kBf16, DType::kF16, DType::kF32}) {
    DummyWeights weights(7, dtype);
    const HostMatrix matrix = *weights.Matrix("w", 301, 333);
    EXPECT_EQ(matrix.dtype, dtype);
    double sum = 0.0;
    double squares = 0.0;
    const size_t count = 301 * 333;
    for (size_t i = 0; i < count; ++i) {
      const double value = ValueAt(matrix, i);
      sum += value;
      squares += value * value;
    }
    EXPECT_NEAR(sum / count, 0.0, 3e-4);
    EXPECT_NEAR(std::sqrt(squares / count), 0.02, 3e-4);
  }
}

TEST(DummyWeightsTest, LayersAsFp8MeanTheSameDequantized) {
  const std::string name = "model.layers.1.w";
  DummyWeights weights(7, DType::kBf16, true);
  EXPECT_FALSE(weights.WhyNotFp8("lm_head.weight", 301, 333).empty());
  ASSERT_TRUE(weights.WhyNotFp8(name, 301, 333).empty());
  const HostMatrix stored = *weights.Fp8Matrix(name, 301, 333);
  EXPECT_EQ(weights.num_dequantized(), 0u);
  const HostMatrix meant = *weights.Matrix(name, 301, 333);
  EXPECT_EQ(weights.num_dequantized(), 1u);
  const size_t count = 301 * 333;
  double squares = 0.0;
  for (size_t i = 0; i < count; ++i) {
    ASSERT_EQ(ValueAt(stored, i), ValueAt(meant, i));
    squares += ValueAt(meant, i) * ValueAt(meant, i);
  }
  EXPECT_NEAR(std::sqrt(squares / count), 0.02, 3e-4);
}

TEST(DummyWeightsTest, DependOnSeedAndNameAlone) {
  DummyWeights a(7, DType::kBf16);
  DummyWeights b(7, DType::kBf16);
  DummyWeights c(8, DType::kBf16);
  b.Matrix("other", 4, 4);
  const size_t bytes = 16 * 16 * 2;
  const HostMatrix first = *a.Matrix("w", 16, 16);
  EXPECT_EQ(std::memcmp(first.data, b.Matrix("w", 16, 16)->data, bytes), 0);
  EXPECT_NE(std::memcmp(first.data, c.Matrix("w", 16, 16)->data, bytes), 0);
  EXPECT_NE(std::memcmp(first.data, a.Matrix("v", 16, 16)->data, bytes), 0);
}

// Pieces of a large tensor are made by several threads; what they hold is what one would make.
TEST(DummyWeightsTest, DependOnNoThread) {
  DummyWeights weights(7, DType::kF32);
  const size_t cols = 1 << 10;
  const HostMatrix all = *weights.Matrix("w", 1000, cols);
  const HostMatrix few = *weights.Matrix("w", 1, cols);
  EXPECT_EQ(std::memcmp(all.data, few.data, cols * sizeof(float)), 0);
  const HostMatrix odd = *weights.Matrix("w", 7, 143);
  EXPECT_EQ(std::memcmp(all.data, odd.data, 7 * 143 * sizeof(float)), 0);
  EXPECT_NE(ValueAt(all, 999 * cols), ValueAt(all, 0));
}

TEST(DummyWeightsTest, TensorsHaveMemoryOfTheirOwnUntilRelease) {
  DummyWeights weights(7, DType::kBf16);
  DummyWeights fresh(7, DType::kBf16);
  for (int round = 0; round < 3; ++round) {
    const HostMatrix small = *weights.Matrix("small", 3, 5);
    const HostMatrix large = *weights.Matrix("large", 40, 50);
    const HostMatrix norm = *weights.Vector("norm", 9);
    EXPECT_EQ(std::memcmp(small.data, fresh.Matrix("small", 3, 5)->data, 3 * 5 * 2), 0);
    EXPECT_EQ(std::memcmp(large.data, fresh.Matrix("large", 40, 50)->data, 40 * 50 * 2), 0);
    EXPECT_EQ(ValueAt(norm, 8), 1.0f);
    weights.Release();
  }
}

TEST(DummyWeightsTest, NormsAreOne) {
  DummyWeights weights(7, DType::kBf16);
  const HostMatrix norm = *weights.Vector("norm", 33);
  for (size_t i = 0; i < 33; ++i) EXPECT_EQ(ValueAt(norm, i), 1.0f);
}

}  // namespace
}  // namespace kvs
