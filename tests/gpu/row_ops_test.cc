#include <algorithm>

#include "gpu/gpu_test_util.h"
#include "gpu/gpu_weight.h"
#include "gpu/ops.h"
#include "reference/naive.h"

namespace kvs::gpu {
namespace {

TEST(GpuEmbed, CopiesRowsAndConvertsWhereTypesDiffer) {
  constexpr uint32_t kVocab = 37, kDim = 1032;
  const std::vector<uint32_t> ids = {36, 0, 5, 5, kNoToken.value};
  Random random(1);
  const auto values = random.Normals(size_t{kVocab} * kDim);
  for (const DType stored : {DType::kBf16, DType::kF16}) {
    const auto rows = Encode16(values, stored);
    const DeviceArray<uint16_t> memory(rows);
    GpuWeight table;
    table.out_features = kVocab;
    table.in_features = kDim;
    table.dtype = stored;
    table.data = DeviceBuffer(memory.data(), memory.size() * 2, [](void*, size_t) {});
    const DeviceArray<uint32_t> token_ids(ids);
    for (const DType act : {DType::kBf16, DType::kF16}) {
      const DeviceArray<uint16_t> out(ids.size() * kDim);
      Embed({&table, reinterpret_cast<const TokenId*>(token_ids.data()), out.data(),
             static_cast<uint32_t>(ids.size())},
            TestLaunch(act));
      std::vector<uint16_t> want;
      for (const uint32_t id : ids) {
        for (uint32_t i = 0; i < kDim; ++i) {
          const uint16_t code = rows[size_t{std::min(id, kVocab - 1)} * kDim + i];
          want.push_back(stored == act ? code : Encode16(Decode16(code, stored), act));
        }
      }
      EXPECT_EQ(out.ToHost(), want) << ToString(stored) << " to " << ToString(act);
    }
  }
}

TEST(GpuGatherRows, CopiesRowsInTheOrderAsked) {
  constexpr uint32_t kDim = 5128;
  const std::vector<uint32_t> rows = {2, 0, 2, 3};
  const auto in = Encode16(Random(2).Normals(size_t{4} * kDim), DType::kBf16);
  const DeviceArray<uint16_t> device_in(in), out(rows.size() * kDim);
  const DeviceArray<uint32_t> device_rows(rows);
  GatherRows({device_in.data(), device_rows.data(), out.data(), 4, kDim}, TestLaunch(DType::kBf16));
  std::vector<uint16_t> want;
  for (const uint32_t row : rows) {
    want.insert(want.end(), in.begin() + row * kDim, in.begin() + (row + 1) * kDim);
  }
  EXPECT_EQ(out.ToHost(), want);
}

struct Normalized {
  std::vector<uint16_t> residual;
  std::vector<uint16_t> out;
};

Normalized RunAddRmsNorm(const std::vector<uint16_t>& residual, const std::vector<uint16_t>& x,
                         const std::vector<float>& weight, DType act) {
  const auto dim = static_cast<uint32_t>(weight.size());
  const auto rows = static_cast<uint32_t>(residual.size() / dim);
  const DeviceArray<uint16_t> device_residual(residual), device_x(x), out(residual.size());
  const DeviceArray<float> device_weight(weight);
  AddRmsNorm({device_residual.data(), x.empty() ? nullptr : device_x.data(), device_weight.data(),
              out.data(), rows, dim, 1e-5f},
             TestLaunch(act));
  return {device_residual.ToHost(), out.ToHost()};
}

TEST(GpuAddRmsNorm, MatchesReferenceAndRowsAreIndependent) {
  for (const DType act : {DType::kBf16, DType::kF16}) {
    for (const uint32_t dim : {8u, 264u, 4096u, 8192u, 8200u, 16384u, 16392u, 32768u}) {
      constexpr uint32_t kRows = 3;
      Random random(dim);
      const auto residual = Encode16(random.Normals(size_t{kRows} * dim, 3.0f), act);
      const auto x = Encode16(random.Normals(residual.size()), act);
      const auto weight = random.Normals(dim);
      const Normalized got = RunAddRmsNorm(residual, x, weight, act);

      // The sum is rounded once, exactly; what is normalized is what was stored.
      std::vector<uint16_t> want_residual(residual.size());
      for (size_t i = 0; i < residual.size(); ++i) {
        want_residual[i] = Encode16(Decode16(residual[i], act) + Decode16(x[i], act), act);
      }
      ASSERT_EQ(got.residual, want_residual) << dim;
      const auto stored = Decode16(want_residual, act);
      std::vector<double> sum(stored.begin(), stored.end());
      const auto want = naive::AddRmsNorm(&sum, {}, weight, kRows, 1e-5f);
      EXPECT_LT(RelativeRms(Decode16(got.out, act), want), act == DType::kF16 ? 3e-4 : 2.2e-3)
          << dim;

      const auto row = [&](const std::vector<uint16_t>& from) {
        return std::vector<uint16_t>(from.begin() + dim, from.begin() + 2 * dim);
      };
      EXPECT_EQ(RunAddRmsNorm(row(residual), row(x), weight, act).out, row(got.out)) << dim;
      const Normalized without_x = RunAddRmsNorm(want_residual, {}, weight, act);
      EXPECT_EQ(without_x.residual, want_residual) << dim;
      EXPECT_EQ(without_x.out, got.out) << dim;
    }
  }
}

}  // namespace
}  // namespace kvs::gpu
