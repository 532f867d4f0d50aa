#include "gpu/gemv.cuh"

#include "gpu/gpu_weight.h"

namespace kvs::gpu {
namespace {

// What each warp brings to the second-level cache, past its ring, while the kernel in front still
// runs: memory stays busy until x is there.
constexpr uint32_t kPrefetches = 2;
constexpr uint32_t kPrefetchSteps = 8;

constexpr size_t kRingBytes = kGemvThreads / kWarpSize * sizeof(GemvRing);

// The CTA's segments of x: rows of `stride` elements.
template <class T>
KVS_DEVICE void LoadX(const GemvParams& params, const GemvPlace& place, uint32_t stride, T* x) {
  const uint32_t begin = place.first_segment * place.segment_steps * kStepK;
  const uint32_t pieces = place.segments_per_cta * place.segment_steps * (kStepK / 8);
  for (uint32_t row = 0; row < params.num_rows; ++row) {
    const T* from = static_cast<const T*>(params.x) + size_t{row} * params.in_features;
    for (uint32_t piece = threadIdx.x; piece < pieces; piece += kGemvThreads) {
      const uint32_t k = begin + piece * 8;
      AsyncCopy16(x + row * stride + piece * 8, from + k, k < params.in_features);
    }
  }
  CommitAsyncCopies();
  WaitAsyncCopies<0>();
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

// Sums of one tile in shared memory, [segments_per_cta * tile_rows][8 * kTokenTiles].
template <int kTokenTiles>
struct TileSums {
  static constexpr uint32_t kTokens = 8 * kTokenTiles;
  float values[kGemvThreads / kWarpSize * 16 * kTokens];

  KVS_DEVICE void Put(const GemvPlace& place, const float (&sums)[kTokenTiles][4]) {
    const uint32_t row = place.segment * place.tile_rows + place.row_in_tile + place.lane_row;
    float* low = values + row * kTokens + place.lane_piece * 2;
#pragma unroll
    for (int tile = 0; tile < kTokenTiles; ++tile) {
      *reinterpret_cast<float2*>(low + tile * 8) = float2{sums[tile][0], sums[tile][1]};
      *reinterpret_cast<float2*>(low + 8 * kTokens + tile * 8) =
          float2{sums[tile][2], sums[tile][3]};
    }
  }

  KVS_DEVICE float Get(const GemvPlace& place, uint32_t segment, uint32_t row,
                       uint32_t token) const {
    return values[(segment * place.tile_rows + row) * kTokens + token];
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

// Leaves the CTA's segments in memory; the last CTA of a tile adds up all.
template <class T, int kTokenTiles>
KVS_DEVICE void FinishSplitTile(const GemvParams& params, const GemvPlace& place, uint32_t tile,
                                const TileSums<kTokenTiles>& sums) {
  const size_t segment_stride = size_t{params.num_rows} * params.out_features;
  ForEachOutput(params, place, tile, [&](uint32_t in_tile, uint32_t row, uint32_t token) {
    float* to = params.partials + place.first_segment * segment_stride +
                size_t{token} * params.out_features + row;
    for (uint32_t segment = 0; segment < place.segments_per_cta; ++segment) {
      to[segment * segment_stride] = sums.Get(place, segment, in_tile, token);
    }
  });
  __shared__ bool is_last;
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    is_last = atomicAdd(params.counters + tile, 1u) == params.split - 1;
    if (is_last) params.counters[tile] = 0;
  }
  __syncthreads();
  if (!is_last) return;
  __threadfence();
  ForEachOutput(params, place, tile, [&](uint32_t, uint32_t row, uint32_t token) {
    const volatile float* from = params.partials + size_t{token} * params.out_features + row;
    float parts[kNumSegments];
#pragma unroll
    for (uint32_t i = 0; i < kNumSegments; ++i) parts[i] = from[i * segment_stride];
    float sum = 0;
#pragma unroll
    for (uint32_t i = 0; i < kNumSegments; ++i) sum += parts[i];
    StoreOut<T>(params, token, row, sum);
  });
}

template <class T, int kTokenTiles>
KVS_DEVICE void FinishTile(const GemvParams& params, const GemvPlace& place, uint32_t tile,
                           const TileSums<kTokenTiles>& sums) {
  if (params.split > 1) return FinishSplitTile<T>(params, place, tile, sums);
  ForEachOutput(params, place, tile, [&](uint32_t in_tile, uint32_t row, uint32_t token) {
    float sum = 0;
#pragma unroll
    for (uint32_t segment = 0; segment < kNumSegments; ++segment) {
      sum += sums.Get(place, segment, in_tile, token);
    }
    StoreOut<T>(params, token, row, sum);
  });
}

template <class T, int kTokenTiles>
__global__ __launch_bounds__(kGemvThreads,
                             2) void GemvKernel(const KVS_GRID_CONSTANT GemvParams params) {
  extern __shared__ uint4 dynamic_shared[];
  auto* const rings = reinterpret_cast<GemvRing*>(dynamic_shared);
  T* const shared_x = reinterpret_cast<T*>(dynamic_shared + kRingBytes / sizeof(uint4));
  __shared__ TileSums<kTokenTiles> sums_of_tile[2];

  const GemvPlace place(params);
  GemvRing& ring = rings[threadIdx.x / kWarpSize];
  GemvCursor<T> cursor(params, place);
  for (uint32_t slot = 0; slot < kGemvDepth; ++slot) cursor.Copy(ring, slot);
  GemvCursor<T> ahead = cursor;
  for (uint32_t i = 0; i < kPrefetches; ++i) ahead.Prefetch(kPrefetchSteps);

  WaitForPreviousKernel();
  AllowNextKernel();
  const uint32_t stride = GemvSharedStride(params.in_features, params.split);
  LoadX(params, place, stride, shared_x);
  const T* x[kTokenTiles];
#pragma unroll
  for (uint32_t i = 0; i < kTokenTiles; ++i) {
    x[i] = shared_x + min(i * 8 + place.lane_row, params.num_rows - 1) * stride +
           place.segment * place.segment_steps * kStepK + place.lane_piece * 8;
  }

  const uint32_t lane = threadIdx.x % kWarpSize;
  uint32_t slot = 0, parity = 0;
  for (uint32_t tile = blockIdx.x / params.split; tile < place.num_tiles;
       tile += gridDim.x / params.split, parity ^= 1) {
    float sums[kTokenTiles][4] = {};
    for (uint32_t step = 0; step < place.num_steps; ++step) {
      WaitAsyncCopies<kGemvDepth - 1>();
      MultiplyStep<T>(sums, ring.low[slot][lane], ring.high[slot][lane], x, step * kStepK);
      cursor.Copy(ring, slot);
      slot = (slot + 1) % kGemvDepth;
    }
    sums_of_tile[parity].Put(place, sums);
    __syncthreads();
    FinishTile<T>(params, place, tile, sums_of_tile[parity]);
  }
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
  return TokenTiles(num_rows) * 2 * sizeof(TileSums<1>) + 128;
}

size_t SharedBytes(const LinearParams& params, uint32_t split) {
  return kRingBytes +
         size_t{params.num_rows} * GemvSharedStride(params.weight->in_features, split) * 2;
}

bool FitsWorkspace(const LinearParams& params, const GemvWorkspace& workspace, uint32_t split) {
  const uint32_t out_features = params.weight->out_features;
  return split == 1 ||
         (size_t{kNumSegments} * params.num_rows * out_features <= workspace.num_partials &&
          CeilDiv(out_features, 16 * split) <= kNumGemvCounters);
}

// As few CTAs to a tile as their shared memory allows: if it can be, less than half of what there
// is, so that the next kernel's CTAs find room beside these. 0: x does not fit.
uint32_t ChooseSplit(const LinearParams& params, const GemvWorkspace& workspace,
                     const DeviceFacts& facts) {
  constexpr size_t kSystemBytes = 1024;  // what every CTA takes besides its own
  const size_t all = facts.max_shared_bytes + kSystemBytes;
  const size_t taken = StaticShared(params.num_rows) + kSystemBytes;
  for (const size_t limit : {all / 2, all}) {
    for (uint32_t split = 1; split <= kNumSegments; split *= 2) {
      if (SharedBytes(params, split) + taken <= limit && FitsWorkspace(params, workspace, split)) {
        return split;
      }
    }
  }
  return 0;
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
  return params.num_rows <= kMaxGemvRows && ChooseSplit(params, workspace, facts) != 0;
}

void Gemv(const LinearParams& params, const GemvWorkspace& workspace, const Launch& launch) {
  const auto& weight = static_cast<const GpuWeight&>(*params.weight);
  KVS_CHECK_OP(params.num_rows, >=, 1u);
  KVS_CHECK_OP(weight.in_features % 8, ==, 0u);
  KVS_CHECK(weight.dtype == launch.act);
  const uint32_t split = ChooseSplit(params, workspace, *launch.facts);
  KVS_CHECK_OP(split, >, 0u);
  const uint32_t num_tiles = CeilDiv(weight.out_features, 16 * split);
  const auto num_multiprocessors = static_cast<uint32_t>(launch.facts->num_multiprocessors);
  const uint32_t ctas_per_split = std::min(num_tiles, std::max(1u, num_multiprocessors / split));
  const GemvParams gemv = {.x = params.x,
                           .weight = weight.data.data(),
                           .out = params.out,
                           .partials = workspace.partials,
                           .counters = workspace.counters,
                           .num_rows = params.num_rows,
                           .in_features = weight.in_features,
                           .out_features = weight.out_features,
                           .split = split,
                           .out_is_f32 = params.out_is_f32};
  DispatchGemv(launch.act, params.num_rows, [&](auto* kernel) {
    LaunchKernel(kernel, dim3(ctas_per_split * split), dim3(kGemvThreads),
                 SharedBytes(params, split), launch, gemv);
  });
}

}  // namespace kvs::gpu
