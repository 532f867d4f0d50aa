#include "gpu/gpu_weight.h"
#include "gpu/linear_kernels.h"
#include "gpu/vec.cuh"

namespace kvs::gpu {
namespace {

constexpr uint32_t kThreads = 256;

// One thread scales eight sums of a row.
template <class T>
__global__ void __launch_bounds__(kThreads)
    ScaleSumsKernel(const float* sums, const float* x_scales, const float* row_scales, void* out,
                    uint32_t num_rows, uint32_t columns, bool out_is_f32) {
  AllowNextKernel();
  WaitForPreviousKernel();
  const uint32_t pieces = columns / 8;
  const size_t index = size_t{blockIdx.x} * kThreads + threadIdx.x;
  if (index >= size_t{num_rows} * pieces) return;
  const auto row = static_cast<uint32_t>(index / pieces);
  const uint32_t column = static_cast<uint32_t>(index % pieces) * 8;
  const float x_scale = x_scales[row];
  float values[8];
#pragma unroll
  for (uint32_t half = 0; half < 2; ++half) {
    const auto sum = reinterpret_cast<const float4*>(sums)[index * 2 + half];
    const auto scale = reinterpret_cast<const float4*>(row_scales + column)[half];
    values[half * 4] = sum.x * (x_scale * scale.x);
    values[half * 4 + 1] = sum.y * (x_scale * scale.y);
    values[half * 4 + 2] = sum.z * (x_scale * scale.z);
    values[half * 4 + 3] = sum.w * (x_scale * scale.w);
  }
  if (out_is_f32) {
    auto* const to = static_cast<float4*>(out) + index * 2;
    to[0] = {values[0], values[1], values[2], values[3]};
    to[1] = {values[4], values[5], values[6], values[7]};
    return;
  }
  Vec8<T> rounded;
#pragma unroll
  for (uint32_t i = 0; i < 8; ++i) rounded[i] = FromFloat<T>(values[i]);
  rounded.Store(static_cast<T*>(out), index);
}

}  // namespace

void ScaleSums(const LinearParams& params, const float* sums, const QuantizedRows& quantized,
               const Launch& launch) {
  const auto& weight = static_cast<const GpuWeight&>(*params.weight);
  KVS_CHECK_OP(weight.out_features % 8, ==, 0u);
  const size_t pieces = size_t{params.num_rows} * (weight.out_features / 8);
  const auto blocks = static_cast<uint32_t>((pieces + kThreads - 1) / kThreads);
  DispatchAct(launch.act, [&]<class T>() {
    LaunchKernel(ScaleSumsKernel<T>, dim3(blocks), dim3(kThreads), 0, launch, sums,
                 quantized.scales, weight.row_scales.as<float>(), params.out, params.num_rows,
                 weight.out_features, params.out_is_f32);
  });
}

}  // namespace kvs::gpu
