#include <algorithm>

#include "gpu/experts.h"
#include "gpu/reduce.cuh"
#include "gpu/vec.cuh"

namespace kvs::gpu {
namespace {

constexpr uint32_t kRowsPerBlock = 4;  // a warp each
constexpr uint32_t kPerLane = kMaxExperts / kWarpSize;
constexpr uint32_t kMaxCombineThreads = 256;

// Orders experts by their logit, equal ones by the lower index first; the largest key wins.
KVS_DEVICE uint64_t KeyOf(float logit, uint32_t expert) {
  const uint32_t bits = __float_as_uint(logit);
  const uint32_t ordered = bits ^ (bits >> 31 ? 0xffffffffu : 0x80000000u);
  return uint64_t{ordered} << 32 | (UINT32_MAX - expert);
}

__global__ void RouteExpertsKernel(const RouteExpertsParams params) {
  const uint32_t lane = threadIdx.x % kWarpSize;
  const uint32_t row = blockIdx.x * kRowsPerBlock + threadIdx.x / kWarpSize;
  WaitForPreviousKernel();
  AllowNextKernel();
  if (row >= params.num_rows) return;
  const float* logits = params.logits + size_t{row} * params.num_experts;
  uint64_t keys[kPerLane];
#pragma unroll
  for (uint32_t i = 0; i < kPerLane; ++i) {
    const uint32_t expert = i * kWarpSize + lane;
    keys[i] = expert < params.num_experts ? KeyOf(logits[expert], expert) : 0;
  }

  uint32_t chosen = 0;  // lane k keeps the expert in place k
  for (uint32_t k = 0; k < params.top_k; ++k) {
    uint64_t best = 0;
#pragma unroll
    for (uint32_t i = 0; i < kPerLane; ++i) best = max(best, keys[i]);
    best = WarpReduce(best, [](uint64_t a, uint64_t b) { return max(a, b); });
#pragma unroll
    for (uint32_t i = 0; i < kPerLane; ++i) keys[i] = keys[i] == best ? 0 : keys[i];
    if (lane == k) chosen = UINT32_MAX - static_cast<uint32_t>(best);
  }

  const bool has_place = lane < params.top_k;
  const float logit = has_place ? logits[chosen] : 0.0f;
  const float largest = WarpReduce(lane == 0 ? logit : -__builtin_inff(),
                                   [](float a, float b) { return fmaxf(a, b); });
  const float weight = has_place ? expf(logit - largest) : 0.0f;
  float sum = weight;
  if (!params.normalize) {
    sum = 0.0f;
    for (uint32_t expert = lane; expert < params.num_experts; expert += kWarpSize) {
      sum += expf(logits[expert] - largest);
    }
  }
  sum = WarpSum(sum);
  if (!has_place) return;
  params.expert_ids[size_t{row} * params.top_k + lane] = chosen;
  params.expert_weights[size_t{row} * params.top_k + lane] = weight / sum;
}

template <class T>
__global__ void CombineExpertsKernel(const CombineExpertsParams params) {
  WaitForPreviousKernel();
  AllowNextKernel();
  const uint32_t row = blockIdx.x;
  const float* weights = params.expert_weights + size_t{row} * params.top_k;
  const T* in = static_cast<const T*>(params.in) + size_t{row} * params.top_k * params.dim;
  T* out = static_cast<T*>(params.out) + size_t{row} * params.dim;
  for (uint32_t piece = threadIdx.x; piece < params.dim / 8; piece += blockDim.x) {
    float sums[8] = {};
    for (uint32_t k = 0; k < params.top_k; ++k) {
      const auto values = Vec8<T>::Load(in + size_t{k} * params.dim, piece);
#pragma unroll
      for (uint32_t i = 0; i < 8; ++i) sums[i] += weights[k] * ToFloat(values[i]);
    }
    Vec8<T> result;
#pragma unroll
    for (uint32_t i = 0; i < 8; ++i) result[i] = FromFloat<T>(sums[i]);
    result.Store(out, piece);
  }
}

}  // namespace

void RouteExperts(const RouteExpertsParams& params, const Launch& launch) {
  const dim3 grid((params.num_rows + kRowsPerBlock - 1) / kRowsPerBlock);
  LaunchKernel(RouteExpertsKernel, grid, dim3(kRowsPerBlock * kWarpSize), 0, launch, params);
}

void CombineExperts(const CombineExpertsParams& params, const Launch& launch) {
  const uint32_t threads = (params.dim / 8 + kWarpSize - 1) / kWarpSize * kWarpSize;
  DispatchAct(launch.act, [&]<class T>() {
    LaunchKernel(CombineExpertsKernel<T>, dim3(params.num_rows),
                 dim3(std::min(threads, kMaxCombineThreads)), 0, launch, params);
  });
}

}  // namespace kvs::gpu
