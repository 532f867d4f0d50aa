// Linear layers in the emulator: against float64, and few rows against many, bit for bit.
#include <cstring>

#include "gpu/gpu_test_util.h"
#include "gpu/gpu_weight.h"
#include "gpu/linear.h"
#include "gpu/linear_kernels.h"
#include "reference/naive.h"

namespace kvs::gpu {
namespace {

struct Shape {
  uint32_t out_features, in_features;
};
// One short row, uneven in both directions, and several blocks with all segments.
constexpr Shape kShapes[] = {{24, 8}, {40, 200}, {150, 576}};
constexpr uint32_t kRows = 70;

class EmulatedLinear : public ::testing::TestWithParam<Shape> {
 protected:
  void Check(DType act) {
    const auto [out_features, in_features] = GetParam();
    Random random(out_features);
    const auto x_stored = Encode16(random.Normals(size_t{kRows} * in_features), act);
    const auto w_stored = Encode16(random.Normals(size_t{out_features} * in_features, 0.05f), act);
    const DeviceArray<uint16_t> x(x_stored), w(w_stored);
    GpuWeight weight;
    weight.out_features = out_features;
    weight.in_features = in_features;
    weight.dtype = act;
    weight.data = DeviceBuffer(w.data(), w.size() * 2, [](void*, size_t) {});
    LinearOp op;
    ASSERT_TRUE(
        op.Reserve({.act = act, .batch_invariant = true, .cache_dir = {}}, *TestLaunch(act).facts));
    const auto run = [&](uint32_t num_rows) {
      const DeviceArray<float> out(size_t{num_rows} * out_features);
      op.Run({x.data(), &weight, out.data(), num_rows, true}, TestLaunch(act));
      return out.ToHost();
    };
    const auto many = run(kRows);
    EXPECT_LT(RelativeRms(many, naive::Linear(Decode16(x_stored, act), Decode16(w_stored, act),
                                              kRows, in_features, out_features)),
              2e-5);
    for (const uint32_t num_rows : {1u, 9u, 17u}) {
      const auto few = run(num_rows);
      EXPECT_EQ(std::memcmp(few.data(), many.data(), few.size() * sizeof(float)), 0) << num_rows;
    }
  }
};

TEST_P(EmulatedLinear, MatchesReferenceAndRowsDoNotDependOnTheirCompany) {
  Check(DType::kBf16);
  Check(DType::kF16);
}

INSTANTIATE_TEST_SUITE_P(Shapes, EmulatedLinear, ::testing::ValuesIn(kShapes));

}  // namespace
}  // namespace kvs::gpu
