#include "model/weight_loader.h"

#include <gtest/gtest.h>

#include "model/dummy_weights.h"
#include "support/host_backend.h"

namespace kvs {
namespace {

// Remembers as what it was asked to hold a matrix.
class HoldingBackend : public test::HostBackend {
 public:
  std::string why_no_fp8;
  std::vector<DType> held, given;

  std::string WhyNoFp8(uint32_t, uint32_t) const override { return why_no_fp8; }
  Result<std::unique_ptr<LinearWeight>> PackLinear(std::span<const HostMatrix> parts,
                                                   DType dtype) override {
    held.push_back(dtype);
    for (const HostMatrix& part : parts) given.push_back(part.dtype);
    return std::make_unique<LinearWeight>();
  }
};

// A matrix of 2 x 64 x 32, loaded from random weights whose layers are FP8 or not.
uint64_t LoadOne(const std::string& layer, bool fp8_layers, const std::string& why_not_fp8,
                 HoldingBackend& backend) {
  DummyWeights source(1, DType::kBf16, fp8_layers);
  WeightLoader loader(DType::kBf16, {});
  std::unique_ptr<LinearWeight> weight;
  loader.AddLinear(weight, {{layer + "a.weight", 64}, {layer + "b.weight", 64}}, 32, why_not_fp8);
  EXPECT_TRUE(loader.Load(source, backend));
  EXPECT_NE(weight, nullptr);
  return loader.total_bytes();
}

constexpr uint64_t kElements = 2 * 64 * 32;
constexpr char kLayer[] = "model.layers.0.";

TEST(WeightLoaderTest, HoldsFp8WhereTheBackendCan) {
  HoldingBackend backend;
  EXPECT_EQ(LoadOne(kLayer, true, "", backend), kElements);
  EXPECT_EQ(backend.held, std::vector{DType::kF8E4M3});
  EXPECT_EQ(backend.given, (std::vector{DType::kF8E4M3, DType::kF8E4M3}));
}

TEST(WeightLoaderTest, DequantizesWhereItCannot) {
  HoldingBackend backend;
  backend.why_no_fp8 = "no";
  EXPECT_EQ(LoadOne(kLayer, true, "", backend), kElements * 2);
  EXPECT_EQ(backend.held, std::vector{DType::kBf16});
  EXPECT_EQ(backend.given, (std::vector{DType::kF32, DType::kF32}));
}

TEST(WeightLoaderTest, HoldsNoFp8WhereItIsNotMeantOrNotStored) {
  HoldingBackend backend;
  EXPECT_EQ(LoadOne(kLayer, true, "it is an embedding", backend), kElements * 2);
  EXPECT_EQ(LoadOne(kLayer, false, "", backend), kElements * 2);
  EXPECT_EQ(LoadOne("lm_head.", true, "", backend), kElements * 2);
  EXPECT_EQ(backend.held, std::vector(3, DType::kBf16));
}

}  // namespace
}  // namespace kvs
