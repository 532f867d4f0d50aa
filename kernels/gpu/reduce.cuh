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

// Shared memory of the block reductions below, which may be called one after another.
template <class T>
struct BlockScratch {
  T warps[kWarpSize];
};

// op over a block of whole warps, in every thread. op is commutative and `identity` its neutral
// value.
template <class T, class Op>
KVS_DEVICE T BlockReduce(T value, T identity, const Op& op, BlockScratch<T>& scratch) {
  value = WarpReduce(value, op);
  const uint32_t lane = threadIdx.x % kWarpSize;
  if (lane == 0) scratch.warps[threadIdx.x / kWarpSize] = value;
  __syncthreads();
  value = WarpReduce(lane < blockDim.x / kWarpSize ? scratch.warps[lane] : identity, op);
  __syncthreads();
  return value;
}

// Inclusive prefix sums over a block of whole warps; *total is the block's sum.
template <class T>
KVS_DEVICE T BlockInclusiveSum(T value, T* total, BlockScratch<T>& scratch) {
  const auto add = [](T a, T b) { return a + b; };
  const uint32_t lane = threadIdx.x % kWarpSize;
  const uint32_t warp = threadIdx.x / kWarpSize;
#pragma unroll
  for (uint32_t distance = 1; distance < kWarpSize; distance *= 2) {
    const T below = ShuffleUp(value, distance);
    if (lane >= distance) value += below;
  }
  if (lane == kWarpSize - 1) scratch.warps[warp] = value;
  __syncthreads();
  const T warp_sum = lane < blockDim.x / kWarpSize ? scratch.warps[lane] : T{0};
  *total = WarpReduce(warp_sum, add);
  value += WarpReduce(lane < warp ? warp_sum : T{0}, add);
  __syncthreads();
  return value;
}

}  // namespace kvs::gpu
