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
  uint32_t window;

  KVS_DEVICE PlannedSeq(const PagedAttentionParams& params, uint32_t seq, uint32_t min_new_tokens,
                        uint32_t tile_tokens)
      : window(params.window) {
    num_new = params.query_start_loc[seq + 1] - params.query_start_loc[seq];
    num_before = params.seq_lens[seq] - num_new;
    num_tiles = num_new < min_new_tokens ? 0 : (num_new + tile_tokens - 1) / tile_tokens;
  }

  // The positions that some row of a tile sees, in steps of kPrefillPartStep: [FirstStep, EndStep).
  KVS_DEVICE uint32_t FirstStep(uint32_t tile, uint32_t tile_tokens) const {
    const uint32_t seen = num_before + tile * tile_tokens + 1;
    return window == 0 || seen <= window ? 0 : (seen - window) / kPrefillPartStep;
  }
  KVS_DEVICE uint32_t End(uint32_t tile, uint32_t tile_tokens) const {
    const uint32_t end = (tile + 1) * tile_tokens;
    return num_before + (end < num_new ? end : num_new);
  }
  KVS_DEVICE uint32_t EndStep(uint32_t tile, uint32_t tile_tokens) const {
    return (End(tile, tile_tokens) + kPrefillPartStep - 1) / kPrefillPartStep;
  }
};

// How many parts a tile of `steps` is cut into, when the step's tiles take `all_steps`.
struct PartRule {
  uint32_t target;  // parts of all tiles; 0: none is split
  unsigned long long all_steps;

  // Up to `target` tiles share the device as it is asked for. Some more would leave part of it idle
  // in a second round, unless their parts are smaller. With many, rounds come out even by
  // themselves.
  KVS_DEVICE PartRule(uint32_t target_or_0, uint32_t num_tiles, unsigned long long steps)
      : target(num_tiles <= target_or_0      ? target_or_0
               : num_tiles < 2 * target_or_0 ? 4 * target_or_0
                                             : 0),
        all_steps(steps) {}

  // The sum over all tiles, but for those of one part, is at most `target`.
  KVS_DEVICE uint32_t Parts(uint32_t steps) const {
    if (target == 0) return 1;
    const auto share =
        static_cast<uint32_t>(static_cast<unsigned long long>(steps) * target / all_steps);
    const uint32_t most = steps / kMinPartSteps;
    const uint32_t parts = share < most ? share : most;
    return parts > 1 ? parts : 1;
  }

 private:
  static constexpr uint32_t kMinPartSteps = 2;
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

// Sorts tiles and parts by the positions they see into as many buckets as there are threads, most
// first; within a bucket they stand in any order. A warp takes a sequence at a time.
__global__ void __launch_bounds__(kPlanThreads)
    PlanPrefillKernel(const KVS_GRID_CONSTANT PagedAttentionParams params, uint32_t min_new_tokens,
                      const KVS_GRID_CONSTANT PrefillTiles tiles, uint32_t tile_tokens) {
  __shared__ uint32_t buckets[kPlanThreads];
  __shared__ uint32_t longest, num_tiles, num_parts, num_merges;
  __shared__ unsigned long long all_steps;
  WaitForPreviousKernel();
  AllowNextKernel();
  buckets[threadIdx.x] = 0;
  if (threadIdx.x == 0) longest = num_tiles = num_parts = num_merges = 0, all_steps = 0;
  __syncthreads();

  const auto for_each_tile = [&](auto&& visit) {
    for (uint32_t seq = threadIdx.x / kWarpSize; seq < params.num_seqs; seq += kPlanWarps) {
      const PlannedSeq planned(params, seq, min_new_tokens, tile_tokens);
      for (uint32_t i = threadIdx.x % kWarpSize; i < planned.num_tiles; i += kWarpSize) {
        visit(planned, seq, i);
      }
    }
    __syncthreads();
  };
  for_each_tile([&](const PlannedSeq& planned, uint32_t, uint32_t i) {
    const uint32_t first = planned.FirstStep(i, tile_tokens);
    atomicMax(&longest, planned.End(i, tile_tokens) - first * kPrefillPartStep);
    atomicAdd(&num_tiles, 1u);
    atomicAdd(&all_steps, planned.EndStep(i, tile_tokens) - first);
  });
  const uint32_t width = longest / kPlanThreads + 1;  // of a bucket, in positions
  const PartRule rule(tiles.split.target, num_tiles, all_steps);

  // Calls visit(bucket, tile) for every tile or for its parts, and `merge` before a tile's parts.
  const auto for_each_item = [&](auto&& merge, auto&& visit) {
    for_each_tile([&](const PlannedSeq& planned, uint32_t seq, uint32_t i) {
      const uint32_t first = planned.FirstStep(i, tile_tokens);
      const uint32_t steps = planned.EndStep(i, tile_tokens) - first;
      const uint32_t end = planned.End(i, tile_tokens);
      const uint32_t parts = rule.Parts(steps);
      PrefillTile tile{seq, i * tile_tokens};
      if (parts == 1) {
        visit(kPlanThreads - 1 - (end - first * kPrefillPartStep) / width, tile);
        return;
      }
      const uint32_t first_part = merge(PrefillMerge{tile.seq, tile.first_token, 0, parts});
      for (uint32_t part = 0; part < parts; ++part) {
        tile.part = first_part + part;
        tile.first_position = (first + part * steps / parts) * kPrefillPartStep;
        tile.end_position = (first + (part + 1) * steps / parts) * kPrefillPartStep;
        const uint32_t last = tile.end_position < end ? tile.end_position : end;
        visit(kPlanThreads - 1 - (last - tile.first_position) / width, tile);
      }
    });
  };
  for_each_item([](const PrefillMerge&) { return 0u; },
                [&](uint32_t bucket, const PrefillTile&) { atomicAdd(&buckets[bucket], 1u); });
  ExclusiveSums(buckets, tiles.count);
  for_each_item(
      [&](PrefillMerge merge) {
        merge.first_part = atomicAdd(&num_parts, merge.num_parts);
        tiles.split.merges[atomicAdd(&num_merges, 1u)] = merge;
        return merge.first_part;
      },
      [&](uint32_t bucket, const PrefillTile& tile) {
        tiles.tiles[atomicAdd(&buckets[bucket], 1u)] = tile;
      });
  if (threadIdx.x == 0 && tiles.split.target != 0) *tiles.split.num_merges = num_merges;
}

// Whether PlanPrefill may split tiles: with so many tokens there are tiles enough.
bool MaySplit(const PagedAttentionParams& params, const PrefillTiles& tiles) {
  return params.num_tokens / PrefillTileTokens(tiles.path, GroupSize(params)) <
         2 * tiles.split.target;
}

}  // namespace

PrefillPath BestPrefillPath(const KvLayout& layout, const DeviceFacts& facts) {
  const bool has_instance = layout.head_dim == 64 || layout.head_dim == 128;
  return facts.major == 9 && has_instance ? PrefillPath::kHopper : PrefillPath::kPortable;
}

uint32_t PrefillTileRows(PrefillPath path) {
  return path == PrefillPath::kHopper ? kHopperPrefillRows : kPortablePrefillRows;
}

uint32_t PrefillTileTokens(PrefillPath path, uint32_t group_size) {
  KVS_CHECK(group_size >= 1 && group_size <= kPrefillMaxGroup);
  return PrefillTileRows(path) / group_size;
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
  PrefillTiles planned = tiles;
  if (!MaySplit(params, tiles)) planned.split = {};
  LaunchKernel(PlanPrefillKernel, dim3(1), dim3(kPlanThreads), 0, launch, params, min_new_tokens,
               planned, PrefillTileTokens(tiles.path, GroupSize(params)));
}

void PagedPrefill(const PagedAttentionParams& params, const PrefillTiles& tiles,
                  const Launch& launch) {
  const KvLayout& layout = params.kv.layout;
  const uint32_t group = GroupSize(params);
  const uint32_t max_tiles = MaxPrefillTiles(tiles.path, group, params.num_tokens, params.num_seqs);
  if (max_tiles == 0) return;
  const bool may_split = MaySplit(params, tiles);
  const uint32_t max_items = max_tiles + (may_split ? tiles.split.MaxParts() : 0);
  const PrefillGrid grid{max_items * layout.num_kv_heads, PrefillTileTokens(tiles.path, group)};
  for (const PrefillInstance& instance : kInstances) {
    if (instance.path == tiles.path && instance.dtype == layout.dtype &&
        instance.head_dim == layout.head_dim) {
      instance.run(params, tiles, grid, launch);
      if (may_split) MergePrefill(params, tiles, grid.tile_tokens, launch);
      return;
    }
  }
  KVS_CHECK(!"no prefill attention kernel for this KV dtype and head_dim");
}

}  // namespace kvs::gpu
