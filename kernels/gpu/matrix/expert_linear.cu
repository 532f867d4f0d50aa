// The matrix products of experts by those of matrix.cuh: expert_linear.cu's functions for AMD. A
// wave multiplies 16 rows of one expert's weights with the rows of one tile, straight from memory.
#include "gpu/experts.h"
#include "gpu/linear_kernels.h"
#include "gpu/matrix.cuh"

namespace kvs::gpu {
namespace {

constexpr uint32_t kWaves = 4;
constexpr uint32_t kWeightRows = kWaves * 16;
constexpr uint32_t kFewRows = 16, kManyRows = 64;  // of a tile

template <class T, uint32_t kTileRows>
__global__ void __launch_bounds__(kWaves* kWave) ExpertRowsKernel(const ExpertGemm gemm) {
  constexpr uint32_t kTokenTiles = kTileRows / 16;
  if (blockIdx.y >= *gemm.tiling.num_tiles) return;
  const ExpertTile tile = gemm.tiling.tiles[blockIdx.y];
  const uint32_t first_row = blockIdx.x * kWeightRows + WaveIndex() * 16;
  const size_t row = min(first_row + MatrixRow(), gemm.out_features - 1);
  const uint16_t* weight =
      static_cast<const uint16_t*>(gemm.weights[tile.expert]) + row * gemm.in_features;
  uint32_t rows[kTokenTiles];
  const uint16_t* x[kTokenTiles];
#pragma unroll
  for (uint32_t t = 0; t < kTokenTiles; ++t) {
    const uint32_t place =
        min(t * 16 + MatrixRow(), tile.count - 1);  // the last one fills the tile
    rows[t] = gemm.tiling.order[tile.first + place];
    x[t] =
        static_cast<const uint16_t*>(gemm.x) + size_t{rows[t] / gemm.rows_per_x} * gemm.in_features;
  }
  MatrixSum sums[kTokenTiles];
  constexpr uint32_t kUnroll = 2;
  for (uint32_t k = 0; k < gemm.in_features; k += 16 * kUnroll) {
    MatrixOperand weights[kUnroll];
#pragma unroll
    for (uint32_t i = 0; i < kUnroll; ++i) {
      weights[i] = LoadOperandFromRow(weight, k + 16 * i, gemm.in_features, WaveLane());
    }
#pragma unroll
    for (uint32_t i = 0; i < kUnroll; ++i) {
#pragma unroll
      for (uint32_t t = 0; t < kTokenTiles; ++t) {
        Multiply<T>(sums[t].values, weights[i],
                    LoadOperandFromRow(x[t], k + 16 * i, gemm.in_features, WaveLane()));
      }
    }
  }
#pragma unroll
  for (uint32_t t = 0; t < kTokenTiles; ++t) {
    if (t * 16 + MatrixRow() >= tile.count) continue;
    T* out = static_cast<T*>(gemm.out) + size_t{rows[t]} * gemm.out_features;
#pragma unroll
    for (uint32_t i = 0; i < kSumValues; ++i) {
      const uint32_t at = first_row + SumRow(WaveLane(), i);
      if (at < gemm.out_features) out[at] = FromFloat<T>(sums[t].values[i]);
    }
  }
}

}  // namespace

uint32_t ExpertTileRows(uint32_t num_rows, uint32_t num_experts) {
  return num_rows > kFewRows * num_experts ? kManyRows : kFewRows;
}

void MultiplyExperts(const ExpertGemm& gemm, const Launch& launch) {
  const dim3 grid(CeilDiv(gemm.out_features, kWeightRows), gemm.tiling.MaxTiles());
  const dim3 block(kWaves * static_cast<uint32_t>(launch.facts->wave_size));
  DispatchAct(launch.act, [&]<class T>() {
    if (gemm.tiling.tile_rows == kManyRows) {
      LaunchKernel(ExpertRowsKernel<T, kManyRows>, grid, block, 0, launch, gemm);
    } else {
      KVS_CHECK_OP(gemm.tiling.tile_rows, ==, kFewRows);
      LaunchKernel(ExpertRowsKernel<T, kFewRows>, grid, block, 0, launch, gemm);
    }
  });
}

}  // namespace kvs::gpu
