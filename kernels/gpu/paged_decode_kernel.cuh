// The kernel itself and its launcher; instances/paged_decode_*.cu instantiate them.
#pragma once

#include "gpu/paged_decode_merge.cuh"
#include "gpu/paged_decode_rope.cuh"

namespace kvs::gpu {

// Behind the stages.
template <class Traits>
KVS_DEVICE DecodeMergeSpace<Traits> MergeSpaceAt(const PagedAttentionParams& params,
                                                 const DecodePlan& plan, uint8_t* shared) {
  const uint32_t num_warps = plan.shape.num_warps;
  return {shared + num_warps * plan.shape.num_stages * Traits::kStageBytes, num_warps,
          params.num_heads / params.kv.layout.num_kv_heads};
}

// Publishes this warp's state, meets the other warps, and joins what belongs together.
template <class Traits, class Act>
KVS_DEVICE void EndPair(const PagedAttentionParams& params, const DecodePlan& plan,
                        const DecodeCut& cut, const DecodeCursor& at,
                        const DecodeState<Traits>& state, float v_scale, uint8_t* shared) {
  const uint32_t num_kv_heads = params.kv.layout.num_kv_heads;
  const uint32_t group = params.num_heads / num_kv_heads;
  const uint32_t num_warps = plan.shape.num_warps;
  const auto space = MergeSpaceAt<Traits>(params, plan, shared);
  const uint32_t warp = threadIdx.x / kWarpSize, num_states = cut.tile_tokens / Traits::kTokens;
  if (warp < num_states) PublishState(state, space, group, warp, threadIdx.x % kWarpSize);
  __syncthreads();
  const DecodePairSpan span(at, at.piece, at.info.tiles_before, num_kv_heads, cut.piece_tiles);
  Act* out = static_cast<Act*>(params.out) +
             (size_t{at.info.query_row} * params.num_heads + size_t{at.kv_head} * group) *
                 Traits::kHeadDim;
  FinishPair(space, num_warps, num_states, plan, span, group, v_scale * Traits::Read::kRescale,
             out);
  __syncthreads();
}

// Takes this warp's tokens of the tile at `at` into `state`. They begin with `token`, and lie at
// `keys`.
template <class Traits, class Act>
KVS_DEVICE void TakeTile(const PagedAttentionParams& params, const DecodeCursor& at, uint32_t token,
                         const DecodeQueries<Traits, Act>& queries, DecodeReads<Traits> reads,
                         const uint8_t* keys, DecodeState<Traits>& state) {
  const uint32_t lane = threadIdx.x % kWarpSize;
  const uint32_t seq_len = at.info.seq_len;
  const uint32_t begin =
      params.window == 0 || seq_len <= params.window ? 0 : seq_len - params.window;
  float scores[Traits::kRowTiles][Traits::kHeadTiles][4] = {};
#pragma unroll
  for (uint32_t r = 0; r < Traits::kRowTiles; ++r) {
    MultiplyKeys<Traits>(keys + r * 16 * Traits::kRowBytes, queries, reads, scores[r]);
  }
  if (token < begin || token + Traits::kTokens > seq_len) {
#pragma unroll
    for (uint32_t r = 0; r < Traits::kRowTiles; ++r) {
      Mask<Traits>(scores[r], token + r * 16, begin, seq_len, lane);
    }
  }
  uint32_t p[Traits::kRowTiles][Traits::kHeadTiles][2];
  state.Update(scores, queries.scale, p);
  const uint8_t* values = keys + Traits::kPlaneBytes;
#pragma unroll
  for (uint32_t r = 0; r < Traits::kRowTiles; ++r) {
    MultiplyValues<Traits>(values + r * 16 * Traits::kRowBytes, p[r], reads, state.out);
  }
}

// Whether this warp takes the newest token of the sequence at `at` in what is left of the piece.
template <class Traits>
KVS_DEVICE bool TakesNewest(const DecodeCursor& at, uint32_t tile_tokens) {
  const uint32_t last = at.info.first_tile + at.info.num_tiles - 1;
  const uint32_t warp = threadIdx.x / kWarpSize;
  return last - at.tile < at.left &&
         at.info.seq_len - 1 - last * tile_tokens - warp * Traits::kTokens < Traits::kTokens;
}

// Begins a pair: gets its queries, and with DecodePlan::rope stores the newest token if it is this
// warp's.
template <class Traits, class Act>
KVS_DEVICE void BeginPair(const PagedAttentionParams& params, const DecodePlan& plan,
                          const DecodeCursor& at, uint32_t tile_tokens,
                          const DecodeNewToken<Traits, Act>& token,
                          DecodeQueries<Traits, Act>& queries) {
  const uint32_t lane = threadIdx.x % kWarpSize;
  const uint32_t num_kv_heads = params.kv.layout.num_kv_heads;
  const uint32_t group = params.num_heads / num_kv_heads;
  if (plan.rope.cos_sin == nullptr) {
    const size_t row_size = size_t{params.num_heads + 2 * num_kv_heads} * Traits::kHeadDim;
    const Act* heads = static_cast<const Act*>(params.qkv) + at.info.query_row * row_size +
                       size_t{at.kv_head} * group * Traits::kHeadDim;
    return queries.LoadPair(params, at, heads, Traits::kHeadDim, lane);
  }
  const bool stores = TakesNewest<Traits>(at, tile_tokens);
  typename DecodeNewToken<Traits, Act>::Stored kv{};
  if (stores) kv = token.LoadKv(at);
  token.RotateQueries(at);
  queries.LoadPair(params, at, token.queries(), token.kQueryStride, lane);
  if (stores) token.StoreKv(at, kv);
}

template <class Traits, class Act>
__global__ void __launch_bounds__(kDecodeMaxWarps* kWarpSize)
    PagedDecodeKernel(const KVS_GRID_CONSTANT PagedAttentionParams params,
                      const KVS_GRID_CONSTANT DecodePlan plan, bool is_dependent) {
  KVS_DYNAMIC_SHARED(uint8_t, shared, 128);
  const uint32_t warp = threadIdx.x / kWarpSize, lane = threadIdx.x % kWarpSize;
  const DecodeCut cut = *plan.cut;
  const bool works = warp < cut.tile_tokens / Traits::kTokens;  // or only meets the others

  // The plan, and K and V of all tokens but the newest, were there before this step's kernels;
  // queries were not.
  DecodeCursor at(plan.pieces[blockIdx.x]);
  bool is_wanted = !is_dependent;  // the kernel in front has ended
  if (is_wanted) AllowNextKernel();
  if (at.left == 0) return WaitForPreviousKernel();
  const uint32_t num_stages = plan.shape.num_stages;
  uint8_t* stages = shared + warp * num_stages * Traits::kStageBytes;
  DecodeLoader<Traits> loader(params, plan, at, cut.tile_tokens, stages, warp, lane);
  const DecodeReads<Traits> reads(lane);
  const bool has_rope = plan.rope.cos_sin != nullptr;
  const uint32_t group = params.num_heads / params.kv.layout.num_kv_heads;
  const DecodeNewToken<Traits, Act> token(
      params, plan,
      MergeSpaceAt<Traits>(params, plan, shared).out + warp * group * Traits::kHeadStride);
  DecodeQueries<Traits, Act> queries;
  DecodeState<Traits> state;
  float v_scale = 0.0f;
  bool new_pair = true;
  uint32_t loaded = 0;  // tiles, until all stages have one
  uint32_t stage = 0;
  // One loop for what comes before the kernel is wanted and after, so that the instructions of a
  // load are there when they are wanted.
  while (true) {
    const bool is_full = loaded == num_stages || !works;
    if (!is_wanted && (is_full || !loader.NextIsOld(has_rope))) {
      WaitForPreviousKernel();
      AllowNextKernel();
      is_wanted = true;
    }
    if (!is_full) {
      ++loaded;
    } else {
      if (new_pair) v_scale = params.kv.v_scale[at.kv_head];  // long before it is needed
      if (works) {
        if (new_pair) {
          BeginPair(params, plan, at, cut.tile_tokens, token, queries);
          state.Clear();
        }
        loader.AwaitOldest(num_stages);
        const uint32_t first = at.tile * cut.tile_tokens + warp * Traits::kTokens;
        uint8_t* const tile = stages + stage * Traits::kStageBytes;
        const uint32_t newest = at.info.seq_len - 1 - first;
        if (has_rope && newest < Traits::kTokens) token.PutInto(tile, newest);
        TakeTile(params, at, first, queries, reads, tile, state);
        SyncWarp();
      }
      if (at.AtPairEnd()) EndPair<Traits, Act>(params, plan, cut, at, state, v_scale, shared);
      if (at.left == 1) return;
      new_pair = at.Advance(plan, params.kv.layout.num_kv_heads);
    }
    if (works) {
      loader.LoadNext(stage, !is_wanted);
      stage = stage + 1 == num_stages ? 0 : stage + 1;
    }
  }
}

template <KvCacheDType dtype, uint32_t kHeadDim, uint32_t kHeadTiles>
void RunPagedDecode(const PagedAttentionParams& params, const DecodePlan& plan,
                    const Launch& launch) {
  using Traits = DecodeTraits<dtype, kHeadDim, kHeadTiles>;
  DispatchAct(launch.act, [&]<class Act>() {
    static const bool allowed = [&] {
      AllowShared(PagedDecodeKernel<Traits, Act>,
                  launch.facts->max_shared_bytes - kDecodeSharedReserve);
      return true;
    }();
    static_cast<void>(allowed);
    LaunchKernel(PagedDecodeKernel<Traits, Act>, dim3(plan.shape.num_ctas),
                 dim3(plan.shape.num_warps * kWarpSize), plan.shape.shared_bytes, launch, params,
                 plan, launch.dependent);
  });
}

}  // namespace kvs::gpu
