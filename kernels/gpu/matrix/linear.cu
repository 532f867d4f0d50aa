// out = x * W^T by the products of matrix.cuh: gemv.cu's and gemm_tiled.cu's functions for AMD. W
// is the left operand, so that its rows are the rows of a sum and the rows of x its columns.
//
// Both kernels sum in one order, so that a row's result depends on that row and W alone, bit for
// bit: steps of 16 elements, padded with zeros, are cut into kSegments contiguous segments; a
// segment is one float32 accumulator; the segments' sums are added to 0 from the first to the last.
#include "gpu/gpu_weight.h"
#include "gpu/linear_kernels.h"
#include "gpu/matrix.cuh"

namespace kvs::gpu {
namespace {

constexpr uint32_t kSegments = 4;
constexpr uint32_t kWaves = 4;
constexpr uint32_t kMaxFewRows = 32;

struct ProductParams {
  const void* x;       // [num_rows, in_features]
  const void* weight;  // [out_features, in_features]
  void* out;           // [num_rows, out_features]
  uint32_t num_rows;
  uint32_t in_features;
  uint32_t out_features;
  bool out_is_f32;
};

KVS_DEVICE const uint16_t* RowOf(const void* matrix, uint32_t row, uint32_t num_rows,
                                 uint32_t in_features) {
  return static_cast<const uint16_t*>(matrix) + size_t{min(row, num_rows - 1)} * in_features;
}

KVS_DEVICE uint32_t SegmentElements(uint32_t in_features) {
  return CeilDiv(CeilDiv(in_features, 16), kSegments) * 16;
}

// The sum of a column that this lane holds: `row` is the first of the sum's 16 rows, `token` the
// column.
template <class T>
KVS_DEVICE void StoreSum(const ProductParams& params, const SumValues& sum, uint32_t row,
                         uint32_t token) {
  if (token >= params.num_rows) return;
#pragma unroll
  for (uint32_t i = 0; i < kSumValues; ++i) {
    const uint32_t at = row + SumRow(WaveLane(), i);
    if (at >= params.out_features) continue;
    const size_t index = size_t{token} * params.out_features + at;
    if (params.out_is_f32) {
      static_cast<float*>(params.out)[index] = sum[i];
    } else {
      static_cast<T*>(params.out)[index] = FromFloat<T>(sum[i]);
    }
  }
}

// Few rows of x: a block has 16 rows of W, each wave one segment of them, straight from memory.
template <class T, uint32_t kTokenTiles>
__global__ void __launch_bounds__(kSegments* kWave) FewRowsKernel(const ProductParams params) {
  __shared__ float partials[kSegments][kTokenTiles][kSumValues][kWave];
  const uint32_t first_row = blockIdx.x * 16;
  const uint32_t segment = SegmentElements(params.in_features);
  const uint32_t begin = min(WaveIndex() * segment, params.in_features);
  const uint32_t end = min(begin + segment, params.in_features);
  const uint16_t* weight =
      RowOf(params.weight, first_row + MatrixRow(), params.out_features, params.in_features);
  const uint16_t* x[kTokenTiles];
#pragma unroll
  for (uint32_t t = 0; t < kTokenTiles; ++t) {
    x[t] = RowOf(params.x, t * 16 + MatrixRow(), params.num_rows, params.in_features);
  }
  MatrixSum sums[kTokenTiles];
  constexpr uint32_t kUnroll = 4;
  for (uint32_t k = begin; k < end; k += 16 * kUnroll) {
    MatrixOperand rows[kUnroll];
#pragma unroll
    for (uint32_t i = 0; i < kUnroll; ++i)
      rows[i] = LoadOperandFromRow(weight, k + 16 * i, end, WaveLane());
#pragma unroll
    for (uint32_t i = 0; i < kUnroll; ++i) {
#pragma unroll
      for (uint32_t t = 0; t < kTokenTiles; ++t) {
        Multiply<T>(sums[t].values, rows[i], LoadOperandFromRow(x[t], k + 16 * i, end, WaveLane()));
      }
    }
  }
#pragma unroll
  for (uint32_t t = 0; t < kTokenTiles; ++t) {
#pragma unroll
    for (uint32_t i = 0; i < kSumValues; ++i) {
      partials[WaveIndex()][t][i][WaveLane()] = sums[t].values[i];
    }
  }
  __syncthreads();
  for (uint32_t t = WaveIndex(); t < kTokenTiles; t += kSegments) {
    SumValues total = {};
    for (uint32_t s = 0; s < kSegments; ++s) {
#pragma unroll
      for (uint32_t i = 0; i < kSumValues; ++i) total[i] += partials[s][t][i][WaveLane()];
    }
    StoreSum<T>(params, total, first_row, t * 16 + MatrixRow());
  }
}

// Many rows: a block has kTileRows rows of W and kTileTokens of x, a wave kWaveRows of the former.
constexpr uint32_t kTileRows = 128, kTileTokens = 64, kWaveRows = kTileRows / kWaves;
constexpr uint32_t kStageElements = 32;  // of in_features at a time
constexpr uint32_t kStageTiles = kStageElements / 16;

// Pieces of kStageElements of a band of rows, on their way through registers to 16x16 tiles.
template <uint32_t kRows, uint32_t kLanes>
struct BandCopy {
  static constexpr uint32_t kRowPieces = kStageElements / 8;
  static constexpr uint32_t kLoads = CeilDiv(kRows * kRowPieces, kLanes);
  static_assert(kRows * kRowPieces % kLanes == 0);
  uint4 pieces[kLoads];

  KVS_DEVICE void Load(const void* matrix, uint32_t first, uint32_t num_rows, uint32_t in_features,
                       uint32_t k) {
#pragma unroll
    for (uint32_t i = 0; i < kLoads; ++i) {
      const uint32_t unit = i * kLanes + threadIdx.x;
      const uint32_t at = k + unit % kRowPieces * 8;
      const uint16_t* row = RowOf(matrix, first + unit / kRowPieces, num_rows, in_features);
      pieces[i] = uint4{0, 0, 0, 0};
      if (at < in_features) pieces[i] = *reinterpret_cast<const uint4*>(row + at);
    }
  }
  KVS_DEVICE void Store(uint8_t* tiles) const {
#pragma unroll
    for (uint32_t i = 0; i < kLoads; ++i) {
      const uint32_t unit = i * kLanes + threadIdx.x;
      const uint32_t row = unit / kRowPieces, piece = unit % kRowPieces;
      uint8_t* to = tiles + TileRowOffset(row / 16 * kStageTiles + piece / 2, row % 16, piece / 2);
      reinterpret_cast<uint4*>(to)[piece % 2] = pieces[i];
    }
  }
};

constexpr uint32_t kWaveRowTiles = kWaveRows / 16, kTokenTiles = kTileTokens / 16;

// A wave's sums: of the segment that it is in, and of those before.
struct WaveSums {
  MatrixSum total[kWaveRowTiles][kTokenTiles], segment[kWaveRowTiles][kTokenTiles];

  KVS_DEVICE void EndSegment() {
#pragma unroll
    for (uint32_t r = 0; r < kWaveRowTiles; ++r) {
#pragma unroll
      for (uint32_t t = 0; t < kTokenTiles; ++t) {
        total[r][t].values += segment[r][t].values;
        segment[r][t] = MatrixSum();
      }
    }
  }

  // Adds 16 elements of in_features, those of tile column `step`.
  template <class T>
  KVS_DEVICE void Add(const uint8_t* rows, const uint8_t* tokens, uint32_t step) {
    MatrixOperand token_operands[kTokenTiles];
#pragma unroll
    for (uint32_t t = 0; t < kTokenTiles; ++t) {
      const uint32_t at = TileRowOffset(t * kStageTiles + step, MatrixRow(), step);
      token_operands[t] = LoadOperand(tokens + at, WaveLane());
    }
#pragma unroll
    for (uint32_t r = 0; r < kWaveRowTiles; ++r) {
      const uint32_t tile = (WaveIndex() * kWaveRowTiles + r) * kStageTiles + step;
      const MatrixOperand row =
          LoadOperand(rows + TileRowOffset(tile, MatrixRow(), step), WaveLane());
#pragma unroll
      for (uint32_t t = 0; t < kTokenTiles; ++t) {
        Multiply<T>(segment[r][t].values, row, token_operands[t]);
      }
    }
  }
};

template <class T>
__global__ void __launch_bounds__(kWaves* kWave) ManyRowsKernel(const ProductParams params) {
  constexpr uint32_t kLanes = kWaves * kWave;
  __shared__ __attribute__((aligned(16))) uint8_t rows[kTileRows / 16 * kStageTiles * kTileBytes];
  __shared__ __attribute__((aligned(16))) uint8_t tokens[kTokenTiles * kStageTiles * kTileBytes];
  const uint32_t row_blocks = CeilDiv(params.out_features, kTileRows);
  const uint32_t first_row = blockIdx.x % row_blocks * kTileRows;
  const uint32_t first_token = blockIdx.x / row_blocks * kTileTokens;
  BandCopy<kTileRows, kLanes> row_copy;
  BandCopy<kTileTokens, kLanes> token_copy;
  const auto load = [&](uint32_t k) {
    row_copy.Load(params.weight, first_row, params.out_features, params.in_features, k);
    token_copy.Load(params.x, first_token, params.num_rows, params.in_features, k);
  };
  WaveSums sums;
  const uint32_t segment = SegmentElements(params.in_features);
  uint32_t segment_end = segment;
  load(0);
  for (uint32_t k = 0; k < params.in_features; k += kStageElements) {
    __syncthreads();  // All have read the stage before.
    row_copy.Store(rows);
    token_copy.Store(tokens);
    if (k + kStageElements < params.in_features) load(k + kStageElements);
    __syncthreads();
#pragma unroll
    for (uint32_t step = 0; step < kStageTiles; ++step) {
      if (k + 16 * step == segment_end) {
        sums.EndSegment();
        segment_end += segment;
      }
      sums.template Add<T>(rows, tokens, step);
    }
  }
  sums.EndSegment();
#pragma unroll
  for (uint32_t r = 0; r < kWaveRowTiles; ++r) {
#pragma unroll
    for (uint32_t t = 0; t < kTokenTiles; ++t) {
      StoreSum<T>(params, sums.total[r][t].values, first_row + WaveIndex() * kWaveRows + r * 16,
                  first_token + t * 16 + MatrixRow());
    }
  }
}

ProductParams ProductOf(const LinearParams& params, const Launch& launch) {
  const auto& weight = static_cast<const GpuWeight&>(*params.weight);
  KVS_CHECK_OP(weight.in_features % 8, ==, 0u);
  KVS_CHECK(weight.dtype == launch.act);
  return {.x = params.x,
          .weight = weight.data.data(),
          .out = params.out,
          .num_rows = params.num_rows,
          .in_features = weight.in_features,
          .out_features = weight.out_features,
          .out_is_f32 = params.out_is_f32};
}

}  // namespace

void PrepareGemv(const DeviceFacts&) {}
void PrepareGemmTiled(const DeviceFacts&) {}

bool GemvServes(const LinearParams& params, const GemvWorkspace&, const DeviceFacts&) {
  return params.num_rows <= kMaxFewRows;
}

void Gemv(const LinearParams& params, const GemvWorkspace&, const Launch& launch) {
  const ProductParams product = ProductOf(params, launch);
  KVS_CHECK_OP(product.num_rows, <=, kMaxFewRows);
  const dim3 grid(CeilDiv(product.out_features, 16));
  const dim3 block(kSegments * static_cast<uint32_t>(launch.facts->wave_size));
  DispatchAct(launch.act, [&]<class T>() {
    if (product.num_rows <= 16) {
      LaunchKernel(FewRowsKernel<T, 1>, grid, block, 0, launch, product);
    } else {
      LaunchKernel(FewRowsKernel<T, 2>, grid, block, 0, launch, product);
    }
  });
}

void GemmTiled(const LinearParams& params, const Launch& launch) {
  const ProductParams product = ProductOf(params, launch);
  const dim3 grid(CeilDiv(product.out_features, kTileRows) *
                  CeilDiv(product.num_rows, kTileTokens));
  const dim3 block(kWaves * static_cast<uint32_t>(launch.facts->wave_size));
  DispatchAct(launch.act,
              [&]<class T>() { LaunchKernel(ManyRowsKernel<T>, grid, block, 0, launch, product); });
}

}  // namespace kvs::gpu
