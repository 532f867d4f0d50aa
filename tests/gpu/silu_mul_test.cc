#include "gpu/gpu_test_util.h"
#include "gpu/ops.h"
#include "reference/naive.h"

namespace kvs::gpu {
namespace {

TEST(GpuSiluMul, MatchesReference) {
  for (const DType act : {DType::kBf16, DType::kF16}) {
    for (const uint32_t dim : {8u, 1024u, 14336u}) {
      constexpr uint32_t kRows = 5;
      Random random(dim);
      const auto stored = Encode16(random.Normals(size_t{kRows} * 2 * dim, 4.0f), act);
      const auto gate_up = Decode16(stored, act);
      const DeviceArray<uint16_t> in(stored), out(size_t{kRows} * dim);
      SiluMul({in.data(), out.data(), kRows, dim}, TestLaunch(act));
      std::vector<double> want(out.size());
      for (size_t row = 0; row < kRows; ++row) {
        for (size_t i = 0; i < dim; ++i) {
          want[row * dim + i] =
              naive::Silu(gate_up[row * 2 * dim + i]) * gate_up[row * 2 * dim + dim + i];
        }
      }
      EXPECT_LT(RelativeRms(Decode16(out.ToHost(), act), want), 3e-3) << dim;
    }
  }
}

}  // namespace
}  // namespace kvs::gpu
