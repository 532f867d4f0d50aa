#include "gpu/ops.h"
#include "gpu/vec.cuh"

namespace kvs::gpu {
namespace {

constexpr uint32_t kThreads = 256;

// One thread computes 8 outputs: one 16-byte piece of a row.
template <class T>
__global__ void SiluMulKernel(SiluMulParams params) {
  AllowNextKernel();
  WaitForPreviousKernel();
  const uint32_t pieces = params.dim / Vec8<T>::kSize;
  const size_t index = size_t{blockIdx.x} * kThreads + threadIdx.x;
  if (index >= size_t{params.num_rows} * pieces) return;
  const size_t row = index / pieces;
  const size_t piece = index % pieces;
  const T* gate_row = static_cast<const T*>(params.gate_up) + row * 2 * params.dim;
  const auto gate = Vec8<T>::Load(gate_row, piece);
  const auto up = Vec8<T>::Load(gate_row + params.dim, piece);
  Vec8<T> out;
#pragma unroll
  for (uint32_t i = 0; i < Vec8<T>::kSize; ++i) {
    const float g = ToFloat(gate[i]);
    out[i] = FromFloat<T>(g / (1.0f + __expf(-g)) * ToFloat(up[i]));
  }
  out.Store(static_cast<T*>(params.out) + row * params.dim, piece);
}

}  // namespace

void SiluMul(const SiluMulParams& params, const Launch& launch) {
  KVS_CHECK_OP(params.dim % 8, ==, 0u);
  const size_t pieces = size_t{params.num_rows} * (params.dim / 8);
  const auto blocks = static_cast<uint32_t>((pieces + kThreads - 1) / kThreads);
  DispatchAct(launch.act, [&]<class T>() {
    LaunchKernel(SiluMulKernel<T>, dim3(blocks), dim3(kThreads), 0, launch, params);
  });
}

}  // namespace kvs::gpu
