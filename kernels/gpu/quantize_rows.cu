#include "gpu/quantize_rows.cuh"

#include "gpu/gpu_weight.h"
#include "gpu/linear_kernels.h"
#include "gpu/reduce.cuh"

namespace kvs::gpu {
namespace {

constexpr uint32_t kThreads = 256;

// A block quantizes one row, which it reads twice: the second time from the nearest cache.
template <class T>
__global__ void __launch_bounds__(kThreads)
    QuantizeRowsKernel(const T* x, QuantizedRows to, uint32_t dim, float input_scale) {
  AllowNextKernel();
  WaitForPreviousKernel();
  const T* const row = x + size_t{blockIdx.x} * dim;
  const uint32_t pieces = dim / 8;
  float largest = 0;
  if (input_scale == 0.0f) {
    for (uint32_t piece = threadIdx.x; piece < pieces; piece += kThreads) {
      largest = fmaxf(largest, LargestMagnitude(Vec8<T>::Load(row, piece)));
    }
    __shared__ BlockScratch<float> scratch;
    largest = BlockReduce(
        largest, 0.0f, [](float a, float b) { return fmaxf(a, b); }, scratch);
  }
  const RowScale scale = RowScale::Of(input_scale, largest);
  uint8_t* const codes = to.codes + size_t{blockIdx.x} * dim;
  for (uint32_t piece = threadIdx.x; piece < pieces; piece += kThreads) {
    QuantizeEight(Vec8<T>::Load(row, piece), scale, codes + size_t{piece} * 8);
  }
  if (threadIdx.x == 0) to.scales[blockIdx.x] = scale.scale;
}

}  // namespace

void QuantizeRows(const LinearParams& params, const QuantizedRows& to, const Launch& launch) {
  const auto& weight = static_cast<const GpuWeight&>(*params.weight);
  KVS_CHECK_OP(params.num_rows, >=, 1u);
  KVS_CHECK_OP(weight.in_features % 8, ==, 0u);
  DispatchAct(launch.act, [&]<class T>() {
    LaunchKernel(QuantizeRowsKernel<T>, dim3(params.num_rows), dim3(kThreads), 0, launch,
                 static_cast<const T*>(params.x), to, weight.in_features, weight.input_scale);
  });
}

}  // namespace kvs::gpu
