// Joins the partial softmax states of tiles that were split over their positions. Two states over
// disjoint positions join as in paged_decode_merge.cuh. A warp takes a row.
#include "gpu/paged_prefill_instances.h"
#include "gpu/paged_prefill_tile.cuh"

namespace kvs::gpu {
namespace {

constexpr uint32_t kMergeThreads = 256;

template <class Act, uint32_t kHeadDim>
KVS_DEVICE void MergeRow(const PagedAttentionParams& params, const PrefillSplit& split,
                         const PrefillMerge& merge, const TileRows& rows, uint32_t row,
                         uint32_t tile_rows, float v_scale) {
  constexpr uint32_t kPairs = kHeadDim / 2 / kWarpSize;  // of one lane, 64 columns apart
  const uint32_t lane = threadIdx.x % kWarpSize;
  const uint32_t num_kv_heads = params.kv.layout.num_kv_heads;
  const auto part_at = [&](uint32_t part) {
    return PartialRowsOf<kHeadDim>(split, merge.first_part + part, rows.kv_head, num_kv_heads,
                                   tile_rows);
  };
  float max = -INFINITY;
  for (uint32_t part = lane; part < merge.num_parts; part += kWarpSize) {
    max = fmaxf(max, part_at(part).state[row].x);
  }
#pragma unroll
  for (uint32_t mask = 1; mask < kWarpSize; mask *= 2) max = fmaxf(max, ShuffleXor(max, mask));

  float sum = 0;
  float2 out[kPairs] = {};
  for (uint32_t first = 0; first < merge.num_parts; first += kWarpSize) {
    const uint32_t own = first + lane;
    const float2 state =
        own < merge.num_parts ? part_at(own).state[row] : make_float2(-INFINITY, 0);
    const float own_weight = Exp2(state.x - max);
    sum += own_weight * state.y;
    const uint32_t here = merge.num_parts - first < kWarpSize ? merge.num_parts - first : kWarpSize;
#pragma unroll 8
    for (uint32_t i = 0; i < here; ++i) {
      const float weight = ShuffleFrom(own_weight, i);
      const auto* from =
          reinterpret_cast<const float2*>(part_at(first + i).out + row * kHeadDim) + lane;
#pragma unroll
      for (uint32_t pair = 0; pair < kPairs; ++pair) {
        const float2 value = from[pair * kWarpSize];
        out[pair].x += weight * value.x;
        out[pair].y += weight * value.y;
      }
    }
  }
#pragma unroll
  for (uint32_t mask = 1; mask < kWarpSize; mask *= 2) sum += ShuffleXor(sum, mask);

  const float factor = v_scale / sum;
  auto* to = reinterpret_cast<uint32_t*>(
                 static_cast<Act*>(params.out) +
                 (size_t{rows.token + row / rows.group} * params.num_heads + rows.QueryHead(row)) *
                     kHeadDim) +
             lane;
#pragma unroll
  for (uint32_t pair = 0; pair < kPairs; ++pair) {
    to[pair * kWarpSize] = Pack2<Act>(out[pair].x * factor, out[pair].y * factor);
  }
}

template <class Act, uint32_t kHeadDim>
__global__ void __launch_bounds__(kMergeThreads)
    MergePrefillKernel(const KVS_GRID_CONSTANT PagedAttentionParams params,
                       const KVS_GRID_CONSTANT PrefillTiles tiles, uint32_t tile_tokens,
                       uint32_t tile_rows) {
  WaitForPreviousKernel();
  AllowNextKernel();
  const uint32_t num_kv_heads = params.kv.layout.num_kv_heads;
  const uint32_t num_rows = *tiles.split.num_merges * num_kv_heads * tile_rows;
  const float rescale = params.kv.layout.dtype == KvCacheDType::kF8E4M3 ? kE4M3Rescale : 1.0f;
  const uint32_t warps = gridDim.x * (kMergeThreads / kWarpSize);
  for (uint32_t i = (blockIdx.x * kMergeThreads + threadIdx.x) / kWarpSize; i < num_rows;
       i += warps) {
    const uint32_t row = i % tile_rows, kv_head = i / tile_rows % num_kv_heads;
    const PrefillMerge merge = tiles.split.merges[i / tile_rows / num_kv_heads];
    const TileRows rows(params, PrefillTile{merge.seq, merge.first_token}, kv_head, tile_tokens);
    if (row >= rows.num_rows()) continue;
    MergeRow<Act, kHeadDim>(params, tiles.split, merge, rows, row, tile_rows,
                            params.kv.v_scale[kv_head] * rescale);
  }
}

}  // namespace

void MergePrefill(const PagedAttentionParams& params, const PrefillTiles& tiles,
                  uint32_t tile_tokens, const Launch& launch) {
  const KvLayout& layout = params.kv.layout;
  const auto run = [&]<uint32_t kHeadDim>() {
    DispatchAct(launch.act, [&]<class Act>() {
      LaunchKernel(MergePrefillKernel<Act, kHeadDim>,
                   dim3(2 * static_cast<uint32_t>(launch.facts->num_multiprocessors)),
                   dim3(kMergeThreads), 0, launch, params, tiles, tile_tokens,
                   PrefillTileRows(tiles.path));
    });
  };
  if (layout.head_dim == 64) return run.operator()<64>();
  if (layout.head_dim == 128) return run.operator()<128>();
  run.operator()<256>();
}

}  // namespace kvs::gpu
