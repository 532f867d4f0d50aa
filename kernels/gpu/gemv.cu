#include "gpu/gemv.cuh"

#include "gpu/gpu_weight.h"

namespace kvs::gpu {
namespace {

// Rows of x in flight per thread.
constexpr uint32_t kLoadRows = 8;

// The CTA's pairs of x: rows of `stride` elements, zeros beyond in_features.
template <class T>
KVS_DEVICE void LoadX(const GemvParams& params, const GemvPlace& place, uint32_t stride, T* x) {
  const uint32_t of_period = place.pairs_per_cta * (kPairColumns / 8);
  const uint32_t pieces = NumPeriods(params.in_features) * of_period;
  for (uint32_t piece = threadIdx.x; piece < pieces; piece += kGemvThreads) {
    const uint32_t k =
        piece / of_period * kPeriod + place.first_pair * kPairColumns + piece % of_period * 8;
    for (uint32_t first = 0; first < params.num_rows; first += kLoadRows) {
      uint4 values[kLoadRows];
#pragma unroll
      for (uint32_t i = 0; i < kLoadRows; ++i) {
        values[i] = uint4{0, 0, 0, 0};
        if (first + i >= params.num_rows || k >= params.in_features) continue;
        values[i] = *reinterpret_cast<const uint4*>(static_cast<const T*>(params.x) +
                                                    size_t{first + i} * params.in_features + k);
      }
#pragma unroll
      for (uint32_t i = 0; i < kLoadRows; ++i) {
        if (first + i >= params.num_rows) continue;
        *reinterpret_cast<uint4*>(x + (first + i) * stride + piece * 8) = values[i];
      }
    }
  }
  __syncthreads();
}

// One step: 16 rows of W by 8 * kTokenTiles rows of x.
template <class T, int kTokenTiles>
KVS_DEVICE void MultiplyStep(float (&sums)[kTokenTiles][4], const uint4& low, const uint4& high,
                             const T* const (&x)[kTokenTiles], uint32_t k) {
  const uint32_t first[4] = {low.x, high.x, low.y, high.y};
  const uint32_t second[4] = {low.z, high.z, low.w, high.w};
#pragma unroll
  for (int tile = 0; tile < kTokenTiles; ++tile) {
    const uint4 b = *reinterpret_cast<const uint4*>(x[tile] + k);
    Mma16x8x16<T>(sums[tile], first, b.x, b.y);
    Mma16x8x16<T>(sums[tile], second, b.z, b.w);
  }
}

template <class T>
KVS_DEVICE void StoreOut(const GemvParams& params, uint32_t token, uint32_t row, float value) {
  const size_t index = size_t{token} * params.out_features + row;
  if (params.out_is_f32) {
    static_cast<float*>(params.out)[index] = value;
  } else {
    static_cast<T*>(params.out)[index] = FromFloat<T>(value);
  }
}

// Sums of one tile in shared memory, [slices of the CTA * tile_rows][8 * kTokenTiles].
template <int kTokenTiles>
struct TileSums {
  static constexpr uint32_t kTokens = 8 * kTokenTiles;
  // Where there is room, one is read while the next is written.
  static constexpr uint32_t kBuffers = kTokenTiles == 1 ? 2 : 1;
  alignas(16) float values[kGemvWarps * 2 * 16 * kTokens];

  // `half`: which slice of the warp's pair.
  KVS_DEVICE void Put(const GemvPlace& place, uint32_t half, const float (&sums)[kTokenTiles][4]) {
    const uint32_t slice = place.pair * 2 + half;
    const uint32_t row = slice * place.tile_rows + place.row_in_tile + place.lane_row;
    float* low = values + row * kTokens + place.lane_piece * 2;
#pragma unroll
    for (int tile = 0; tile < kTokenTiles; ++tile) {
      *reinterpret_cast<float2*>(low + tile * 8) = float2{sums[tile][0], sums[tile][1]};
      *reinterpret_cast<float2*>(low + 8 * kTokens + tile * 8) =
          float2{sums[tile][2], sums[tile][3]};
    }
  }

  KVS_DEVICE float Get(const GemvPlace& place, uint32_t slice, uint32_t row, uint32_t token) const {
    return values[(slice * place.tile_rows + row) * kTokens + token];
  }
};

// Calls f(row in the tile, row of W, token) for every output of the tile, shared out to the CTA.
template <class F>
KVS_DEVICE void ForEachOutput(const GemvParams& params, const GemvPlace& place, uint32_t tile,
                              F&& f) {
  const uint32_t first = tile * place.tile_rows;
  for (uint32_t i = threadIdx.x; i < place.tile_rows * params.num_rows; i += kGemvThreads) {
    const uint32_t row = i % place.tile_rows;
    if (first + row < params.out_features) f(row, first + row, i / place.tile_rows);
  }
}

// The outputs of a tile, or the CTA's slices of them.
template <class T, int kTokenTiles>
KVS_DEVICE void FinishTile(const GemvParams& params, const GemvPlace& place, uint32_t tile,
                           const TileSums<kTokenTiles>& sums) {
  if (params.split == 1) {
    ForEachOutput(params, place, tile, [&](uint32_t in_tile, uint32_t row, uint32_t token) {
      float sum = 0;
#pragma unroll
      for (uint32_t slice = 0; slice < kNumSlices; ++slice) {
        sum += sums.Get(place, slice, in_tile, token);
      }
      StoreOut<T>(params, token, row, sum);
    });
    return;
  }
  const size_t slice_stride = size_t{params.num_rows} * params.out_features;
  ForEachOutput(params, place, tile, [&](uint32_t in_tile, uint32_t row, uint32_t token) {
    float* to = params.partials + place.first_pair * 2 * slice_stride +
                size_t{token} * params.out_features + row;
    for (uint32_t slice = 0; slice < place.pairs_per_cta * 2; ++slice) {
      to[slice * slice_stride] = sums.Get(place, slice, in_tile, token);
    }
  });
}

// The last CTA of a team adds up the slices that all have left in memory.
template <class T>
KVS_DEVICE void FinishTeam(const GemvParams& params, const GemvPlace& place) {
  __shared__ bool is_last;
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    is_last = atomicAdd(params.counters + place.team, 1u) == params.split - 1;
    if (is_last) params.counters[place.team] = 0;
  }
  __syncthreads();
  if (!is_last) return;
  __threadfence();
  const size_t slice_stride = size_t{params.num_rows} * params.out_features;
  for (uint32_t tile = place.team; tile < place.num_tiles; tile += place.num_teams) {
    ForEachOutput(params, place, tile, [&](uint32_t, uint32_t row, uint32_t token) {
      const volatile float* from = params.partials + size_t{token} * params.out_features + row;
      float parts[kNumSlices];
#pragma unroll
      for (uint32_t i = 0; i < kNumSlices; ++i) parts[i] = from[i * slice_stride];
      float sum = 0;
#pragma unroll
      for (uint32_t i = 0; i < kNumSlices; ++i) sum += parts[i];
      StoreOut<T>(params, token, row, sum);
    });
  }
}

// Waits for the oldest of the ring's groups.
KVS_DEVICE void WaitForGroup(uint32_t num_groups) {
  static_assert(kMaxRingGroups == 5);
  if (num_groups == 5) return WaitAsyncCopies<4>();
  if (num_groups == 4) return WaitAsyncCopies<3>();
  if (num_groups == 3) return WaitAsyncCopies<2>();
  WaitAsyncCopies<1>();
}

template <class T, int kTokenTiles>
__global__ __launch_bounds__(kGemvThreads,
                             1) void GemvKernel(const KVS_GRID_CONSTANT GemvParams params) {
  KVS_DYNAMIC_SHARED(uint4, dynamic_shared, 16);
  auto* const rings = reinterpret_cast<GemvGroup*>(dynamic_shared);
  T* const shared_x = reinterpret_cast<T*>(rings + kGemvWarps * params.num_groups);
  constexpr uint32_t kBuffers = TileSums<kTokenTiles>::kBuffers;
  __shared__ TileSums<kTokenTiles> sums_of_tile[kBuffers];

  const GemvPlace place(params);
  GemvGroup* const ring = rings + threadIdx.x / kWarpSize * params.num_groups;
  GemvCursor<T> cursor(params, place);
  for (uint32_t i = 0; i < params.num_groups; ++i) cursor.Copy(ring[i]);

  WaitForPreviousKernel();
  AllowNextKernel();
  const uint32_t stride = GemvSharedStride(params.in_features, params.split);
  LoadX(params, place, stride, shared_x);
  const T* x[kTokenTiles];
#pragma unroll
  for (uint32_t i = 0; i < kTokenTiles; ++i) {
    x[i] = shared_x + min(i * 8 + place.lane_row, params.num_rows - 1) * stride +
           place.pair * kPairColumns + place.lane_piece * 8;
  }

  uint32_t slot = 0, buffer = 0;
  for (uint32_t tile = place.team; tile < place.num_tiles; tile += place.num_teams) {
    float sums[2][kTokenTiles][4] = {};
    for (uint32_t period = 0; period < place.num_periods; ++period) {
      WaitForGroup(params.num_groups);
      SyncWarp();  // what the other lanes have copied is there
#pragma unroll
      for (uint32_t i = 0; i < kGroupSteps; ++i) {
        MultiplyStep<T>(sums[i * kStepK / kSliceColumns],
                        ring[slot].At(place.lane_row, i, place.lane_piece),
                        ring[slot].At(place.lane_row + 8, i, place.lane_piece), x,
                        period * place.pairs_per_cta * kPairColumns + i * kStepK);
      }
      SyncWarp();  // all lanes have read the group
      cursor.Copy(ring[slot]);
      slot = slot + 1 == params.num_groups ? 0 : slot + 1;
    }
    sums_of_tile[buffer].Put(place, 0, sums[0]);
    sums_of_tile[buffer].Put(place, 1, sums[1]);
    __syncthreads();
    FinishTile<T>(params, place, tile, sums_of_tile[buffer]);
    if constexpr (kBuffers == 1) {
      __syncthreads();
    } else {
      buffer ^= 1;
    }
  }
  if (params.split > 1) FinishTeam<T>(params, place);
}

constexpr uint32_t TokenTiles(uint32_t num_rows) {
  return num_rows <= 8 ? 1 : num_rows <= 16 ? 2 : 4;
}

// Calls f(kernel) with the instance for this many rows.
template <class F>
void DispatchGemv(DType act, uint32_t num_rows, F&& f) {
  DispatchAct(act, [&]<class T>() {
    if (TokenTiles(num_rows) == 1) return f(GemvKernel<T, 1>);
    if (TokenTiles(num_rows) == 2) return f(GemvKernel<T, 2>);
    return f(GemvKernel<T, 4>);
  });
}

// What GemvKernel declares by itself, at least.
size_t StaticShared(uint32_t num_rows) {
  const uint32_t tiles = TokenTiles(num_rows);
  return std::max(tiles, TileSums<1>::kBuffers) * sizeof(TileSums<1>) + 128;
}

bool FitsWorkspace(const LinearParams& params, const GemvWorkspace& workspace, uint32_t split) {
  return split == 1 || size_t{kNumSlices} * params.num_rows * params.weight->out_features <=
                           workspace.num_partials;
}

struct GemvPlan {
  uint32_t split;  // 0: x does not fit into shared memory
  uint32_t num_groups;
  size_t shared_bytes;
};

// As few CTAs to a tile as their shared memory allows, with a deep ring if it can be had.
GemvPlan ChoosePlan(const LinearParams& params, const GemvWorkspace& workspace,
                    const DeviceFacts& facts) {
  constexpr size_t kGroupBytes = kGemvWarps * sizeof(GemvGroup);
  const size_t limit = facts.max_shared_bytes - StaticShared(params.num_rows);
  for (uint32_t split = 1; split <= kNumPairs; split *= 2) {
    const size_t x_bytes =
        size_t{params.num_rows} * GemvSharedStride(params.weight->in_features, split) * 2;
    if (x_bytes + 2 * kGroupBytes > limit || !FitsWorkspace(params, workspace, split)) continue;
    const size_t num_groups = std::min<size_t>(kMaxRingGroups, (limit - x_bytes) / kGroupBytes);
    // More than half, so that no two CTAs share a multiprocessor.
    const size_t bytes = std::max(num_groups * kGroupBytes + x_bytes, limit / 2 + 1);
    return {split, static_cast<uint32_t>(num_groups), bytes};
  }
  return {};
}

}  // namespace

void PrepareGemv(const DeviceFacts& facts) {
  for (const DType act : {DType::kBf16, DType::kF16}) {
    for (const uint32_t num_rows : {8u, 16u, 32u}) {
      DispatchGemv(act, num_rows, [&](auto* kernel) {
        AllowShared(kernel, facts.max_shared_bytes - StaticShared(num_rows));
      });
    }
  }
}

bool GemvServes(const LinearParams& params, const GemvWorkspace& workspace,
                const DeviceFacts& facts) {
  return params.num_rows <= kMaxGemvRows && ChoosePlan(params, workspace, facts).split != 0;
}

void Gemv(const LinearParams& params, const GemvWorkspace& workspace, const Launch& launch) {
  const auto& weight = static_cast<const GpuWeight&>(*params.weight);
  KVS_CHECK_OP(params.num_rows, >=, 1u);
  KVS_CHECK_OP(weight.in_features % 8, ==, 0u);
  KVS_CHECK(weight.dtype == launch.act);
  const GemvPlan plan = ChoosePlan(params, workspace, *launch.facts);
  KVS_CHECK_OP(plan.split, >, 0u);
  const uint32_t num_tiles = CeilDiv(weight.out_features, 16 * plan.split);
  const auto num_multiprocessors = static_cast<uint32_t>(launch.facts->num_multiprocessors);
  const uint32_t num_teams =
      std::min({num_tiles, std::max(1u, num_multiprocessors / plan.split), kNumGemvCounters});
  const GemvParams gemv = {.x = params.x,
                           .weight = weight.data.data(),
                           .out = params.out,
                           .partials = workspace.partials,
                           .counters = workspace.counters,
                           .num_rows = params.num_rows,
                           .in_features = weight.in_features,
                           .out_features = weight.out_features,
                           .split = plan.split,
                           .num_groups = plan.num_groups,
                           .out_is_f32 = params.out_is_f32};
  DispatchGemv(launch.act, params.num_rows, [&](auto* kernel) {
    LaunchKernel(kernel, dim3(num_teams * plan.split), dim3(kGemvThreads), plan.shared_bytes,
                 launch, gemv);
  });
}

}  // namespace kvs::gpu
