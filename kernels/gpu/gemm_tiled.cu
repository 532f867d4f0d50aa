#include "gpu/async_copy.cuh"
#include "gpu/gpu_weight.h"
#include "gpu/linear_kernels.h"
#include "gpu/mma.cuh"

namespace kvs::gpu {
namespace {

// A CTA computes kWeightRows x kTokens outputs; each of its kWeightWarps x kTokenWarps warps an
// equal part. kStages steps of W and x are in flight.
template <uint32_t kWeightRows_, uint32_t kTokens_, uint32_t kWeightWarps_, uint32_t kTokenWarps_,
          uint32_t kStages_>
struct Tile {
  static constexpr uint32_t kWeightRows = kWeightRows_, kTokens = kTokens_;
  static constexpr uint32_t kWeightWarps = kWeightWarps_, kTokenWarps = kTokenWarps_;
  static constexpr uint32_t kStages = kStages_;
  static constexpr uint32_t kThreads = kWeightWarps * kTokenWarps * kWarpSize;
  static constexpr uint32_t kWarpRows = kWeightRows / kWeightWarps;
  static constexpr uint32_t kWarpTokens = kTokens / kTokenWarps;
  static constexpr uint32_t kRowTiles = kWarpRows / 16, kTokenTiles = kWarpTokens / 8;
  static constexpr uint32_t kStageElements = (kWeightRows + kTokens) * kStepK;
  static constexpr size_t kSharedBytes = size_t{kStages} * kStageElements * 2;
  static_assert(kWarpRows % 16 == 0 && kWarpTokens % 8 == 0);
  static_assert(kWeightRows * 4 % kThreads == 0);
};
using LargeTile = Tile<128, 128, 2, 4, 6>;
using SmallTile = Tile<64, 64, 2, 2, 6>;

struct GemmParams {
  const void* x;       // [num_rows, in_features]
  const void* weight;  // [out_features, in_features]
  void* out;           // [num_rows, out_features]
  uint32_t num_rows;
  uint32_t in_features;
  uint32_t out_features;
  bool out_is_f32;
};

// Walks over the steps of a product in the order in which they are summed.
struct StepWalk {
  uint32_t in_features;
  uint32_t slice = 0;
  uint32_t k = 0;  // the step's first column

  KVS_DEVICE void Advance() {
    k += kStepK;
    if (k % kSliceColumns != 0 && k < in_features) return;
    k = (k - 1) / kSliceColumns * kSliceColumns + kPeriod;
    if (k < in_features) return;
    k = ++slice * kSliceColumns;
  }
};

// Copies one step of kRows rows from `first` on to shared memory as [kRows][kStepK]: two rows fill
// the 32 banks, so that fragments are read without conflicts. Rows past the last repeat it.
template <uint32_t kRows, uint32_t kThreads, class T>
KVS_DEVICE void CopyStep(T* shared, const void* matrix, uint32_t first, uint32_t num_rows,
                         uint32_t in_features, uint32_t first_k) {
#pragma unroll
  for (uint32_t i = 0; i < CeilDiv(kRows * 4, kThreads); ++i) {
    const uint32_t piece = i * kThreads + threadIdx.x;
    if (kRows * 4 % kThreads != 0 && piece >= kRows * 4) break;
    const uint32_t row = min(first + piece / 4, num_rows - 1);
    const uint32_t k = first_k + piece % 4 * 8;
    AsyncCopy16(shared + piece * 8, static_cast<const T*>(matrix) + size_t{row} * in_features + k,
                k < in_features);
  }
}

// The CTA's place. Neighbouring CTAs share a band of W, kBand tiles high, so that what runs at the
// same time reads little of W and x.
struct GemmPlace {
  uint32_t first_row, first_token;

  template <class Tile>
  KVS_DEVICE static GemmPlace Of(const GemmParams& params) {
    constexpr uint32_t kBand = 8;
    const uint32_t row_tiles = CeilDiv(params.out_features, Tile::kWeightRows);
    const uint32_t token_tiles = CeilDiv(params.num_rows, Tile::kTokens);
    const uint32_t band = blockIdx.x / (kBand * token_tiles);
    const uint32_t in_band = blockIdx.x % (kBand * token_tiles);
    const uint32_t height = min(kBand, row_tiles - band * kBand);
    return {(band * kBand + in_band % height) * Tile::kWeightRows,
            in_band / height * Tile::kTokens};
  }
};

template <class Tile>
struct Accumulators {
  float values[Tile::kRowTiles][Tile::kTokenTiles][4] = {};

  KVS_DEVICE void TakeFrom(Accumulators& other) {
#pragma unroll
    for (uint32_t i = 0; i < Tile::kRowTiles; ++i) {
#pragma unroll
      for (uint32_t j = 0; j < Tile::kTokenTiles; ++j) {
#pragma unroll
        for (uint32_t c = 0; c < 4; ++c) {
          values[i][j][c] += other.values[i][j][c];
          other.values[i][j][c] = 0;
        }
      }
    }
  }
};

// sums += one step. `weight` and `x` are the lane's pieces of the warp's first row of each.
template <class T, class Tile>
KVS_DEVICE void MultiplyStep(Accumulators<Tile>& sums, const T* weight, const T* x) {
  uint4 b[Tile::kTokenTiles];
#pragma unroll
  for (uint32_t j = 0; j < Tile::kTokenTiles; ++j) {
    b[j] = *reinterpret_cast<const uint4*>(x + j * 8 * kStepK);
  }
#pragma unroll
  for (uint32_t i = 0; i < Tile::kRowTiles; ++i) {
    const uint4 low = *reinterpret_cast<const uint4*>(weight + i * 16 * kStepK);
    const uint4 high = *reinterpret_cast<const uint4*>(weight + (i * 16 + 8) * kStepK);
    const uint32_t first[4] = {low.x, high.x, low.y, high.y};
    const uint32_t second[4] = {low.z, high.z, low.w, high.w};
#pragma unroll
    for (uint32_t j = 0; j < Tile::kTokenTiles; ++j) {
      Mma16x8x16<T>(sums.values[i][j], first, b[j].x, b[j].y);
    }
#pragma unroll
    for (uint32_t j = 0; j < Tile::kTokenTiles; ++j) {
      Mma16x8x16<T>(sums.values[i][j], second, b[j].z, b[j].w);
    }
  }
}

template <class Out, class Tile>
KVS_DEVICE void StoreTile(const GemmParams& params, const Accumulators<Tile>& sums,
                          uint32_t first_row, uint32_t first_token) {
#pragma unroll
  for (uint32_t j = 0; j < Tile::kTokenTiles; ++j) {
#pragma unroll
    for (uint32_t i = 0; i < Tile::kRowTiles; ++i) {
#pragma unroll
      for (uint32_t c = 0; c < 4; ++c) {
        const uint32_t row = first_row + i * 16 + c / 2 * 8;
        const uint32_t token = first_token + j * 8 + c % 2;
        if (row >= params.out_features || token >= params.num_rows) continue;
        static_cast<Out*>(params.out)[size_t{token} * params.out_features + row] =
            FromFloat<Out>(sums.values[i][j][c]);
      }
    }
  }
}

template <class T, class Tile>
__global__ __launch_bounds__(Tile::kThreads) void GemmTiledKernel(const GemmParams params) {
  KVS_DYNAMIC_SHARED(uint4, dynamic_shared, 16);
  T* const shared = reinterpret_cast<T*>(dynamic_shared);
  const auto place = GemmPlace::Of<Tile>(params);
  const uint32_t num_steps = NumSteps(params.in_features);
  const auto copy_weight = [&](uint32_t step, uint32_t k) {
    CopyStep<Tile::kWeightRows, Tile::kThreads>(
        shared + step % Tile::kStages * Tile::kStageElements, params.weight, place.first_row,
        params.out_features, params.in_features, k);
  };
  const auto copy_x = [&](uint32_t step, uint32_t k) {
    CopyStep<Tile::kTokens, Tile::kThreads>(
        shared + step % Tile::kStages * Tile::kStageElements + Tile::kWeightRows * kStepK, params.x,
        place.first_token, params.num_rows, params.in_features, k);
  };

  StepWalk early{params.in_features}, ahead = early, at = early;
  for (uint32_t step = 0; step < min(Tile::kStages - 1, num_steps); ++step, early.Advance()) {
    copy_weight(step, early.k);
  }
  WaitForPreviousKernel();
  AllowNextKernel();
  for (uint32_t step = 0; step < Tile::kStages - 1; ++step, ahead.Advance()) {
    if (step < num_steps) copy_x(step, ahead.k);
    CommitAsyncCopies();
  }

  const uint32_t lane = threadIdx.x % kWarpSize, warp = threadIdx.x / kWarpSize;
  const uint32_t warp_row = warp / Tile::kTokenWarps * Tile::kWarpRows;
  const uint32_t warp_token = warp % Tile::kTokenWarps * Tile::kWarpTokens;
  const uint32_t lane_offset = lane / 4 * kStepK + lane % 4 * 8;
  Accumulators<Tile> total, of_slice;
  for (uint32_t step = 0; step < num_steps; ++step, ahead.Advance()) {
    WaitAsyncCopies<Tile::kStages - 2>();
    __syncthreads();  // the step is there, and all warps are past the one whose place is taken
    if (step + Tile::kStages - 1 < num_steps) {
      copy_weight(step + Tile::kStages - 1, ahead.k);
      copy_x(step + Tile::kStages - 1, ahead.k);
    }
    CommitAsyncCopies();
    const T* stage = shared + step % Tile::kStages * Tile::kStageElements + lane_offset;
    MultiplyStep<T>(of_slice, stage + warp_row * kStepK,
                    stage + (Tile::kWeightRows + warp_token) * kStepK);
    const uint32_t slice = at.slice;
    at.Advance();
    if (at.slice != slice) total.TakeFrom(of_slice);
  }

  const uint32_t row = place.first_row + warp_row + lane / 4;
  const uint32_t token = place.first_token + warp_token + lane % 4 * 2;
  if (params.out_is_f32) {
    StoreTile<float>(params, total, row, token);
  } else {
    StoreTile<T>(params, total, row, token);
  }
}

template <class T, class Tile>
void LaunchTiled(const GemmParams& params, const Launch& launch) {
  const uint32_t num_tiles =
      CeilDiv(params.out_features, Tile::kWeightRows) * CeilDiv(params.num_rows, Tile::kTokens);
  LaunchKernel(GemmTiledKernel<T, Tile>, dim3(num_tiles), dim3(Tile::kThreads), Tile::kSharedBytes,
               launch, params);
}

}  // namespace

void PrepareGemmTiled(const DeviceFacts&) {
  for (const DType act : {DType::kBf16, DType::kF16}) {
    DispatchAct(act, [&]<class T>() {
      AllowShared(GemmTiledKernel<T, LargeTile>, LargeTile::kSharedBytes);
      AllowShared(GemmTiledKernel<T, SmallTile>, SmallTile::kSharedBytes);
    });
  }
}

void GemmTiled(const LinearParams& params, const Launch& launch) {
  const auto& weight = static_cast<const GpuWeight&>(*params.weight);
  KVS_CHECK_OP(weight.in_features % 8, ==, 0u);
  KVS_CHECK(weight.dtype == launch.act);
  const GemmParams gemm = {.x = params.x,
                           .weight = weight.data.data(),
                           .out = params.out,
                           .num_rows = params.num_rows,
                           .in_features = weight.in_features,
                           .out_features = weight.out_features,
                           .out_is_f32 = params.out_is_f32};
  const uint32_t large_tiles = CeilDiv(gemm.out_features, LargeTile::kWeightRows) *
                               CeilDiv(gemm.num_rows, LargeTile::kTokens);
  const bool fills_device = large_tiles >= static_cast<uint32_t>(launch.facts->num_multiprocessors);
  DispatchAct(launch.act, [&]<class T>() {
    if (fills_device && gemm.num_rows > SmallTile::kTokens) {
      LaunchTiled<T, LargeTile>(gemm, launch);
    } else {
      LaunchTiled<T, SmallTile>(gemm, launch);
    }
  });
}

}  // namespace kvs::gpu
