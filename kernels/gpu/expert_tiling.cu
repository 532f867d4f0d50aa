#include "gpu/experts.h"
#include "gpu/reduce.cuh"

namespace kvs::gpu {
namespace {

constexpr uint32_t kThreads = 512;
static_assert(kMaxExperts <= kThreads, "a thread counts one expert's tiles");

// One block. Which row of an expert comes first is up to chance; no result depends on it.
__global__ __launch_bounds__(kThreads) void TileExpertsKernel(const ExpertTiling tiling) {
  __shared__ uint32_t counts[kMaxExperts], next[kMaxExperts];
  __shared__ BlockScratch<uint32_t> scratch;
  if (threadIdx.x < kMaxExperts) counts[threadIdx.x] = 0;
  __syncthreads();
  WaitForPreviousKernel();
  AllowNextKernel();
  for (uint32_t row = threadIdx.x; row < tiling.num_rows; row += kThreads) {
    atomicAdd(&counts[tiling.expert_ids[row]], 1u);
  }
  __syncthreads();

  const uint32_t expert = threadIdx.x;
  const uint32_t count = expert < tiling.num_experts ? counts[expert] : 0;
  const uint32_t num_tiles = (count + tiling.tile_rows - 1) / tiling.tile_rows;
  uint32_t total_rows, total_tiles;
  const uint32_t first = BlockInclusiveSum(count, &total_rows, scratch) - count;
  const uint32_t first_tile = BlockInclusiveSum(num_tiles, &total_tiles, scratch) - num_tiles;
  for (uint32_t i = 0; i < num_tiles; ++i) {
    const uint32_t begin = i * tiling.tile_rows;
    tiling.tiles[first_tile + i] = {expert, first + begin, min(tiling.tile_rows, count - begin)};
  }
  if (expert == 0) *tiling.num_tiles = total_tiles;
  if (expert < kMaxExperts) next[expert] = first;
  __syncthreads();
  for (uint32_t row = threadIdx.x; row < tiling.num_rows; row += kThreads) {
    tiling.order[atomicAdd(&next[tiling.expert_ids[row]], 1u)] = row;
  }
}

}  // namespace

void TileExperts(const ExpertTiling& tiling, const Launch& launch) {
  LaunchKernel(TileExpertsKernel, dim3(1), dim3(kThreads), 0, launch, tiling);
}

}  // namespace kvs::gpu
