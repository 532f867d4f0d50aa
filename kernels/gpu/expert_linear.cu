// The matrix products of experts: a CTA multiplies kWeightRows rows of one expert's weights with
// the rows of one tile, which it gathers as it reads them.
#include "gpu/async_copy.cuh"
#include "gpu/experts.h"
#include "gpu/linear_kernels.h"
#include "gpu/mma.cuh"

namespace kvs::gpu {
namespace {

constexpr uint32_t kWarps = 4;
constexpr uint32_t kThreads = kWarps * kWarpSize;
constexpr uint32_t kWeightRows = kWarps * 16;
constexpr uint32_t kStages = 4;
constexpr uint32_t kFewRows = 16, kManyRows = 64;  // of a tile

// One step of kRows rows to shared memory as [kRows][kStepK]: two rows fill the 32 banks.
// `row_at(r)` is where row r begins.
template <uint32_t kRows, class T, class RowAt>
KVS_DEVICE void CopyStep(T* shared, uint32_t in_features, uint32_t step, const RowAt& row_at) {
#pragma unroll
  for (uint32_t i = 0; i < CeilDiv(kRows * 4, kThreads); ++i) {
    const uint32_t piece = i * kThreads + threadIdx.x;
    if (kRows * 4 % kThreads != 0 && piece >= kRows * 4) break;
    const uint32_t k = step * kStepK + piece % 4 * 8;
    AsyncCopy16(shared + piece * 8, row_at(piece / 4) + k, k < in_features);
  }
}

// sums += one step. Slot i of a product's 16 elements is the same element of both operands: the
// first product takes elements 8t..8t+3 of lane t's piece, the second the rest.
template <class T, uint32_t kTiles>
KVS_DEVICE void MultiplyStep(float (&sums)[kTiles][4], const T* weight, const T* x) {
  const uint4 low = *reinterpret_cast<const uint4*>(weight);
  const uint4 high = *reinterpret_cast<const uint4*>(weight + 8 * kStepK);
  const uint32_t first[4] = {low.x, high.x, low.y, high.y};
  const uint32_t second[4] = {low.z, high.z, low.w, high.w};
#pragma unroll
  for (uint32_t j = 0; j < kTiles; ++j) {
    const uint4 b = *reinterpret_cast<const uint4*>(x + j * 8 * kStepK);
    Mma16x8x16<T>(sums[j], first, b.x, b.y);
    Mma16x8x16<T>(sums[j], second, b.z, b.w);
  }
}

template <class T, uint32_t kTileRows>
__global__ __launch_bounds__(kThreads) void ExpertLinearKernel(
    const KVS_GRID_CONSTANT ExpertGemm gemm) {
  constexpr uint32_t kStageElements = (kWeightRows + kTileRows) * kStepK;
  alignas(16) __shared__ T stages[kStages * kStageElements];
  __shared__ uint32_t rows[kTileRows];
  WaitForPreviousKernel();
  AllowNextKernel();
  if (blockIdx.y >= *gemm.tiling.num_tiles) return;
  const ExpertTile tile = gemm.tiling.tiles[blockIdx.y];
  for (uint32_t i = threadIdx.x; i < kTileRows; i += kThreads) {  // the last one fills the tile
    rows[i] = gemm.tiling.order[tile.first + min(i, tile.count - 1)];
  }
  __syncthreads();

  const uint32_t first_row = blockIdx.x * kWeightRows;
  const T* const weight = static_cast<const T*>(gemm.weights[tile.expert]);
  const T* const x = static_cast<const T*>(gemm.x);
  const uint32_t num_steps = NumSteps(gemm.in_features);
  const auto copy = [&](uint32_t step) {
    T* const stage = stages + step % kStages * kStageElements;
    CopyStep<kWeightRows>(stage, gemm.in_features, step, [&](uint32_t r) {
      const uint32_t row = min(first_row + r, gemm.out_features - 1);
      return weight + size_t{row} * gemm.in_features;
    });
    CopyStep<kTileRows>(stage + kWeightRows * kStepK, gemm.in_features, step, [&](uint32_t r) {
      return x + size_t{rows[r] / gemm.rows_per_x} * gemm.in_features;
    });
  };
  for (uint32_t step = 0; step < kStages - 1; ++step) {
    if (step < num_steps) copy(step);
    CommitAsyncCopies();
  }
  const uint32_t lane = threadIdx.x % kWarpSize, warp = threadIdx.x / kWarpSize;
  const uint32_t lane_offset = lane / 4 * kStepK + lane % 4 * 8;
  float sums[kTileRows / 8][4] = {};
  for (uint32_t step = 0; step < num_steps; ++step) {
    WaitAsyncCopies<kStages - 2>();
    __syncthreads();  // the step is there, and all warps are past the one whose place is taken
    if (step + kStages - 1 < num_steps) copy(step + kStages - 1);
    CommitAsyncCopies();
    const T* const stage = stages + step % kStages * kStageElements + lane_offset;
    MultiplyStep(sums, stage + warp * 16 * kStepK, stage + kWeightRows * kStepK);
  }

#pragma unroll
  for (uint32_t j = 0; j < kTileRows / 8; ++j) {
#pragma unroll
    for (uint32_t c = 0; c < 4; ++c) {
      const uint32_t row = first_row + warp * 16 + lane / 4 + c / 2 * 8;
      const uint32_t place = j * 8 + lane % 4 * 2 + c % 2;
      if (row >= gemm.out_features || place >= tile.count) continue;
      static_cast<T*>(gemm.out)[size_t{rows[place]} * gemm.out_features + row] =
          FromFloat<T>(sums[j][c]);
    }
  }
}

}  // namespace

uint32_t ExpertTileRows(uint32_t num_rows, uint32_t num_experts) {
  return num_rows > kFewRows * num_experts ? kManyRows : kFewRows;
}

void MultiplyExperts(const ExpertGemm& gemm, const Launch& launch) {
  const dim3 grid(CeilDiv(gemm.out_features, kWeightRows), gemm.tiling.MaxTiles());
  DispatchAct(launch.act, [&]<class T>() {
    if (gemm.tiling.tile_rows == kManyRows) {
      LaunchKernel(ExpertLinearKernel<T, kManyRows>, grid, dim3(kThreads), 0, launch, gemm);
    } else {
      KVS_CHECK_OP(gemm.tiling.tile_rows, ==, kFewRows);
      LaunchKernel(ExpertLinearKernel<T, kFewRows>, grid, dim3(kThreads), 0, launch, gemm);
    }
  });
}

}  // namespace kvs::gpu
