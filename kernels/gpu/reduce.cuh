// Reductions over a warp and over a block, each in one fixed order: a result depends on the values
// and the block's shape alone.
#pragma once

#include "gpu/gpu.h"

namespace kvs::gpu {

// Calls op(a, b) along a butterfly: every lane gets the result, the same bits in all of them when
// op is commutative.
template <class T, class Op>
KVS_DEVICE T WarpReduce(T value, const Op& op) {
#pragma unroll
  for (uint32_t mask = kWarpSize / 2; mask > 0; mask /= 2) {
    value = op(value, ShuffleXor(value, mask));
  }
  return value;
}

KVS_DEVICE float WarpSum(float value) {
  return WarpReduce(value, [](float a, float b) { return a + b; });
}

// The sum over a block of whole warps, in every thread. A kernel may call it once.
KVS_DEVICE float BlockSum(float value) {
  __shared__ float sums[kWarpSize];
  value = WarpSum(value);
  const uint32_t lane = threadIdx.x % kWarpSize;
  if (lane == 0) sums[threadIdx.x / kWarpSize] = value;
  __syncthreads();
  return WarpSum(lane < blockDim.x / kWarpSize ? sums[lane] : 0.0f);
}

}  // namespace kvs::gpu
