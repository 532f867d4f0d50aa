// The emulator itself: exchanges, barriers, and what it does with kernels that would hang.
#include <numeric>

#include "gpu/gpu_test_util.h"
#include "gpu/reduce.cuh"

namespace kvs::gpu {
namespace {

__global__ void SumKernel(const float* values, float* sum) {
  const float total = BlockSum(values[blockIdx.x * blockDim.x + threadIdx.x]);
  if (threadIdx.x == blockDim.x - 1) sum[blockIdx.x] = total;
}

TEST(Emulator, SumsOverBlocksOfSeveralWaves) {
  std::vector<float> values(3 * 192);
  std::iota(values.begin(), values.end(), 0.0f);
  const DeviceArray<float> in(values), out(3);
  LaunchKernel(SumKernel, dim3(3), dim3(192), 0, TestLaunch(DType::kBf16), in.data(), out.data());
  for (uint32_t i = 0; i < 3; ++i) {
    EXPECT_EQ(out.ToHost()[i],
              std::accumulate(values.begin() + 192 * i, values.begin() + 192 * (i + 1), 0.0f));
  }
}

__global__ void AnyKernel(uint32_t* any) {
  const bool found = AnyInWarp(threadIdx.x == 40);
  const uint32_t up = ShuffleUp(threadIdx.x, 3);
  any[threadIdx.x] = (found ? 1000 : 0) + up;
}

TEST(Emulator, WarpsOfAWaveOf64AreApart) {
  const DeviceArray<uint32_t> out(64);
  LaunchKernel(AnyKernel, dim3(1), dim3(64), 0, TestLaunch(DType::kBf16), out.data());
  const auto got = out.ToHost();
  for (uint32_t i = 0; i < 64; ++i) {
    const uint32_t up = i % 32 < 3 ? i : i - 3;
    EXPECT_EQ(got[i], (i >= 32 ? 1000 : 0) + up) << i;
  }
}

__global__ void DivergentBarrierKernel() {
  if (threadIdx.x < 32) {
    __syncthreads();
    ShuffleXor(1.0f, 1);
    return;
  }
  ShuffleXor(1.0f, 1);
  if (threadIdx.x % 2 == 0) ShuffleXor(1.0f, 1);
  __syncthreads();
}

TEST(EmulatorDeathTest, NamesAKernelThatWouldHang) {
  EXPECT_DEATH(LaunchKernel(DivergentBarrierKernel, dim3(1), dim3(64), 0, TestLaunch(DType::kBf16)),
               "not all threads have come");
}

}  // namespace
}  // namespace kvs::gpu
