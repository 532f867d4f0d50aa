// The kernel itself and its launcher; instances/paged_decode_*.cu instantiate them.
#pragma once

#include "gpu/paged_decode_merge.cuh"

namespace kvs::gpu {

// Publishes this warp's state, meets the other warps, and joins what belongs together.
template <class Traits, class Act>
KVS_DEVICE void EndPair(const PagedAttentionParams& params, const DecodePlan& plan,
                        uint32_t piece_tiles, const DecodeCursor& at,
                        const DecodeState<Traits>& state, uint8_t* shared) {
  const uint32_t num_kv_heads = params.kv.layout.num_kv_heads;
  const uint32_t group = params.num_heads / num_kv_heads;
  const DecodeMergeSpace<Traits> space(shared, group);
  PublishState(state, space, group, threadIdx.x / kWarpSize, threadIdx.x % kWarpSize);
  __syncthreads();
  const uint32_t begin = plan.tile_start[at.seq] * num_kv_heads + at.kv_head * at.info.num_tiles;
  const DecodePairSpan span(begin, begin + at.info.num_tiles, piece_tiles);
  Act* out = static_cast<Act*>(params.out) +
             (size_t{at.info.query_row} * params.num_heads + size_t{at.kv_head} * group) *
                 Traits::kHeadDim;
  FinishPair(space, plan, span, plan.arrivals + at.seq * num_kv_heads + at.kv_head, group,
             params.kv.v_scale[at.kv_head] * Traits::Read::kRescale, out);
  __syncthreads();
}

template <class Traits, class Act>
__global__ void __launch_bounds__(Traits::kThreads)
    PagedDecodeKernel(const KVS_GRID_CONSTANT PagedAttentionParams params,
                      const KVS_GRID_CONSTANT DecodePlan plan) {
  KVS_DYNAMIC_SHARED(uint8_t, shared, 128);
  const uint32_t warp = threadIdx.x / kWarpSize, lane = threadIdx.x % kWarpSize;
  const uint32_t num_kv_heads = params.kv.layout.num_kv_heads;
  const uint32_t group = params.num_heads / num_kv_heads;
  const uint32_t piece_tiles = *plan.piece_tiles;

  // The plan is older than the kernel in front; queries, and K and V of the newest token, are not.
  DecodeCursor at(plan.pieces[blockIdx.x]);
  uint8_t* stages = shared + warp * Traits::kStages * Traits::kStageBytes;
  DecodeLoader<Traits> loader{params, plan, at, stages, warp, lane};
  if (at.left > 0) loader.FetchIds();
  WaitForPreviousKernel();
  AllowNextKernel();
  if (at.left == 0) return;

#pragma unroll
  for (uint32_t stage = 0; stage + 1 < Traits::kStages; ++stage) loader.LoadNext(stage);

  DecodeQueries<Traits, Act> queries;
  DecodeState<Traits> state;
  float scale = 0.0f;
  bool new_pair = true;
  uint32_t stage = 0;
  while (true) {
    if (new_pair) {
      const size_t row_size = size_t{params.num_heads + 2 * num_kv_heads} * Traits::kHeadDim;
      queries.Load(static_cast<const Act*>(params.qkv) + at.info.query_row * row_size +
                       size_t{at.kv_head} * group * Traits::kHeadDim,
                   group, lane);
      scale =
          params.sm_scale * params.kv.k_scale[at.kv_head] * Traits::Read::kRescale * 1.44269504f;
      state.Clear();
    }
    WaitAsyncCopies<static_cast<int>(Traits::kStages) - 2>();
    SyncWarp();
    // The stage that the last round has read is free again.
    loader.LoadNext((stage + Traits::kStages - 1) % Traits::kStages);

    const uint8_t* keys = stages + stage * Traits::kStageBytes;
    const uint32_t token = at.tile * Traits::kTileTokens + warp * Traits::kTokens;
    const uint32_t seq_len = at.info.seq_len;
    const uint32_t begin =
        params.window == 0 || seq_len <= params.window ? 0 : seq_len - params.window;
    float scores[Traits::kRowTiles][Traits::kHeadTiles][4] = {};
#pragma unroll
    for (uint32_t r = 0; r < Traits::kRowTiles; ++r) {
      MultiplyKeys<Traits>(keys + r * 16 * Traits::kRowBytes, queries, lane, scores[r]);
      ScaleAndMask<Traits>(scores[r], scale, token + r * 16, begin, seq_len, lane);
    }
    uint32_t p[Traits::kRowTiles][Traits::kHeadTiles][2];
    state.Update(scores, p);
    const uint8_t* values = keys + Traits::kPlaneBytes;
#pragma unroll
    for (uint32_t r = 0; r < Traits::kRowTiles; ++r) {
      MultiplyValues<Traits>(values + r * 16 * Traits::kRowBytes, p[r], lane, state.out);
    }
    stage = (stage + 1) % Traits::kStages;

    if (at.AtPairEnd()) EndPair<Traits, Act>(params, plan, piece_tiles, at, state, shared);
    if (at.left == 1) return;
    new_pair = at.Advance(plan, num_kv_heads);
  }
}

template <KvCacheDType dtype, uint32_t kHeadDim, uint32_t kHeadTiles>
void RunPagedDecode(const PagedAttentionParams& params, const DecodePlan& plan,
                    const Launch& launch) {
  using Traits = DecodeTraits<dtype, kHeadDim, kHeadTiles>;
  const uint32_t group = params.num_heads / params.kv.layout.num_kv_heads;
  const uint32_t shared_bytes = DecodeSharedBytes<Traits>(group, plan.num_ctas);
  DispatchAct(launch.act, [&]<class Act>() {
    static const bool allowed = [&] {
      AllowShared(PagedDecodeKernel<Traits, Act>,
                  DecodeSharedBytes<Traits>(8 * kHeadTiles, plan.num_ctas));
      return true;
    }();
    static_cast<void>(allowed);
    LaunchKernel(PagedDecodeKernel<Traits, Act>, dim3(plan.num_ctas), dim3(Traits::kThreads),
                 shared_bytes, launch, params, plan);
  });
}

}  // namespace kvs::gpu
