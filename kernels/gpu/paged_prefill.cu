// The planner of prefill attention, and the choice of its kernel.
#include "gpu/paged_prefill.h"

#include "gpu/paged_prefill_instances.h"

namespace kvs::gpu {
namespace {

struct PrefillInstance {
  PrefillPath path;
  KvCacheDType dtype;
  uint32_t head_dim;
  void (*run)(const PagedAttentionParams&, const PrefillTiles&, const PrefillGrid&, const Launch&);
};

// `ls instances` and this table say the same.
#define KVS_PREFILL_INSTANCES(dtype)                                        \
  {PrefillPath::kPortable, dtype, 64, RunPortablePrefill<dtype, 64>},       \
      {PrefillPath::kPortable, dtype, 128, RunPortablePrefill<dtype, 128>}, \
      {PrefillPath::kPortable, dtype, 256, RunPortablePrefill<dtype, 256>}, \
      {PrefillPath::kHopper, dtype, 64, RunHopperPrefill<dtype, 64>}, {     \
    PrefillPath::kHopper, dtype, 128, RunHopperPrefill<dtype, 128>          \
  }
constexpr PrefillInstance kInstances[] = {
    KVS_PREFILL_INSTANCES(KvCacheDType::kBf16), KVS_PREFILL_INSTANCES(KvCacheDType::kF16),
    KVS_PREFILL_INSTANCES(KvCacheDType::kF8E4M3), KVS_PREFILL_INSTANCES(KvCacheDType::kF8E5M2)};
#undef KVS_PREFILL_INSTANCES

constexpr uint32_t kPlanThreads = 1024;
constexpr uint32_t kPlanWarps = kPlanThreads / kWarpSize;

uint32_t GroupSize(const PagedAttentionParams& params) {
  return params.num_heads / params.kv.layout.num_kv_heads;
}

// A sequence as the planner sees it.
struct PlannedSeq {
  uint32_t num_tiles;
  uint32_t num_new;
  uint32_t num_before;  // positions before the first new token

  KVS_DEVICE PlannedSeq(const PagedAttentionParams& params, uint32_t seq, uint32_t min_new_tokens,
                        uint32_t tile_tokens) {
    num_new = params.query_start_loc[seq + 1] - params.query_start_loc[seq];
    num_before = params.seq_lens[seq] - num_new;
    num_tiles = num_new < min_new_tokens ? 0 : (num_new + tile_tokens - 1) / tile_tokens;
  }

  // Positions that the last row of a tile may see: what the tile costs.
  KVS_DEVICE uint32_t Cost(uint32_t tile, uint32_t tile_tokens) const {
    const uint32_t end = (tile + 1) * tile_tokens;
    return num_before + (end < num_new ? end : num_new);
  }
};

// One counter per thread becomes the sum of the counters before it, and `total` that of all.
KVS_DEVICE void ExclusiveSums(uint32_t* counters, uint32_t* total) {
  const uint32_t mine = counters[threadIdx.x];
  for (uint32_t step = 1; step < kPlanThreads; step *= 2) {
    const uint32_t before = threadIdx.x >= step ? counters[threadIdx.x - step] : 0;
    __syncthreads();
    counters[threadIdx.x] += before;
    __syncthreads();
  }
  if (threadIdx.x == kPlanThreads - 1) *total = counters[threadIdx.x];
  counters[threadIdx.x] -= mine;
  __syncthreads();
}

// Sorts tiles by cost into as many buckets as there are threads, dearest first; within a bucket
// they stand in any order. A warp takes a sequence at a time.
__global__ void __launch_bounds__(kPlanThreads)
    PlanPrefillKernel(const KVS_GRID_CONSTANT PagedAttentionParams params, uint32_t min_new_tokens,
                      const KVS_GRID_CONSTANT PrefillTiles tiles, uint32_t tile_tokens) {
  __shared__ uint32_t buckets[kPlanThreads];
  __shared__ uint32_t longest;
  WaitForPreviousKernel();
  AllowNextKernel();
  buckets[threadIdx.x] = 0;
  if (threadIdx.x == 0) longest = 0;
  __syncthreads();
  for (uint32_t seq = threadIdx.x; seq < params.num_seqs; seq += kPlanThreads) {
    atomicMax(&longest, params.seq_lens[seq]);
  }
  __syncthreads();
  const uint32_t width = longest / kPlanThreads + 1;  // of a bucket, in positions

  const auto for_each_tile = [&](auto&& visit) {
    for (uint32_t seq = threadIdx.x / kWarpSize; seq < params.num_seqs; seq += kPlanWarps) {
      const PlannedSeq planned(params, seq, min_new_tokens, tile_tokens);
      for (uint32_t i = threadIdx.x % kWarpSize; i < planned.num_tiles; i += kWarpSize) {
        const uint32_t bucket = kPlanThreads - 1 - planned.Cost(i, tile_tokens) / width;
        visit(bucket, PrefillTile{seq, i * tile_tokens});
      }
    }
    __syncthreads();
  };
  for_each_tile([&](uint32_t bucket, PrefillTile) { atomicAdd(&buckets[bucket], 1u); });
  ExclusiveSums(buckets, tiles.count);
  for_each_tile([&](uint32_t bucket, PrefillTile tile) {
    tiles.tiles[atomicAdd(&buckets[bucket], 1u)] = tile;
  });
}

}  // namespace

PrefillPath BestPrefillPath(const KvLayout& layout, const DeviceFacts& facts) {
  const bool has_instance = layout.head_dim == 64 || layout.head_dim == 128;
  return facts.major == 9 && has_instance ? PrefillPath::kHopper : PrefillPath::kPortable;
}

uint32_t PrefillTileTokens(PrefillPath path, uint32_t group_size) {
  KVS_CHECK(group_size >= 1 && group_size <= kPrefillMaxGroup);
  return (path == PrefillPath::kHopper ? kHopperPrefillRows : kPortablePrefillRows) / group_size;
}

uint32_t MaxPrefillTiles(PrefillPath path, uint32_t group_size, uint32_t num_tokens,
                         uint32_t num_seqs) {
  // Every sequence may leave one tile partly empty, and no tile is quite empty.
  const uint32_t ragged = num_tokens / PrefillTileTokens(path, group_size) + num_seqs;
  return ragged < num_tokens ? ragged : num_tokens;
}

void PlanPrefill(const PagedAttentionParams& params, uint32_t min_new_tokens,
                 const PrefillTiles& tiles, const Launch& launch) {
  KVS_CHECK_OP(min_new_tokens, >=, 1u);
  LaunchKernel(PlanPrefillKernel, dim3(1), dim3(kPlanThreads), 0, launch, params, min_new_tokens,
               tiles, PrefillTileTokens(tiles.path, GroupSize(params)));
}

void PagedPrefill(const PagedAttentionParams& params, const PrefillTiles& tiles,
                  const Launch& launch) {
  const KvLayout& layout = params.kv.layout;
  const uint32_t group = GroupSize(params);
  const uint32_t max_tiles = MaxPrefillTiles(tiles.path, group, params.num_tokens, params.num_seqs);
  if (max_tiles == 0) return;
  const PrefillGrid grid{max_tiles * layout.num_kv_heads, PrefillTileTokens(tiles.path, group)};
  for (const PrefillInstance& instance : kInstances) {
    if (instance.path == tiles.path && instance.dtype == layout.dtype &&
        instance.head_dim == layout.head_dim) {
      return instance.run(params, tiles, grid, launch);
    }
  }
  KVS_CHECK(!"no prefill attention kernel for this KV dtype and head_dim");
}

}  // namespace kvs::gpu
