// Joining partial softmax states: of the warps of a block, then of the blocks that share a pair.
// Two states over disjoint tokens, (m1, l1, o1) and (m2, l2, o2), join to m = max(m1, m2),
// l = l1 2^(m1-m) + l2 2^(m2-m), and o likewise (Milakov & Gimelshein 2018, base 2).
#pragma once

#include "gpu/paged_decode.cuh"

namespace kvs::gpu {

// Shared memory of a merge: the warps' states.
template <class Traits>
struct DecodeMergeSpace {
  float* out;     // [num_warps][group][kHeadStride]
  float2* state;  // [num_warps][group]: maximum, sum

  KVS_DEVICE DecodeMergeSpace(uint8_t* at, uint32_t num_warps, uint32_t group)
      : out(reinterpret_cast<float*>(at)),
        state(reinterpret_cast<float2*>(out + num_warps * group * Traits::kHeadStride)) {}
};

template <class Traits>
KVS_DEVICE void PublishState(const DecodeState<Traits>& mine, DecodeMergeSpace<Traits> space,
                             uint32_t group, uint32_t warp, uint32_t lane) {
  const uint32_t g = lane / 4, t = lane % 4;
#pragma unroll
  for (uint32_t n = 0; n < Traits::kHeadTiles; ++n) {
#pragma unroll
    for (uint32_t i = 0; i < 2; ++i) {
      float sum = mine.sum[n][i];
#pragma unroll
      for (uint32_t mask = 4; mask < kWarpSize; mask *= 2) sum += ShuffleXor(sum, mask);
      const uint32_t head = n * 8 + 2 * t + i;
      if (head >= group) continue;
      if (g == 0) space.state[warp * group + head] = make_float2(mine.max[n][i], sum);
      float* to = space.out + (warp * group + head) * Traits::kHeadStride;
#pragma unroll
      for (uint32_t d = 0; d < Traits::kDimTiles; ++d) {
        const float first = mine.out[n][d][i], second = mine.out[n][d][2 + i];
        if constexpr (Traits::kIsFp8) {  // neighbouring dims
          *reinterpret_cast<float2*>(to + DimOf<Traits>(d, 0, g)) = make_float2(first, second);
        } else {
          to[DimOf<Traits>(d, 0, g)] = first;
          to[DimOf<Traits>(d, 1, g)] = second;
        }
      }
    }
  }
}

// Joins the warps' states of one head, for four of its dims.
template <class Traits>
KVS_DEVICE float4 JoinWarps(DecodeMergeSpace<Traits> space, uint32_t num_warps, uint32_t group,
                            uint32_t head, uint32_t quad, float2* joined) {
  float max = -1e30f;
#pragma unroll 4
  for (uint32_t w = 0; w < num_warps; ++w) max = fmaxf(max, space.state[w * group + head].x);
  float sum = 0.0f;
  float4 out = make_float4(0, 0, 0, 0);
#pragma unroll 4
  for (uint32_t w = 0; w < num_warps; ++w) {
    const float2 state = space.state[w * group + head];
    const float4 part = *reinterpret_cast<const float4*>(
        space.out + (w * group + head) * Traits::kHeadStride + 4 * quad);
    const float weight = Exp2(state.x - max);
    sum += state.y * weight;
    out.x += part.x * weight;
    out.y += part.y * weight;
    out.z += part.z * weight;
    out.w += part.w * weight;
  }
  *joined = make_float2(max, sum);
  return out;
}

// Which blocks share the pair whose tiles are [begin, end) of the line.
struct DecodePairSpan {
  uint32_t first_cta;
  uint32_t num_parts;
  bool first_begins_earlier;  // the pair starts inside the first block's piece, not at its begin

  KVS_DEVICE DecodePairSpan(uint32_t begin, uint32_t end, uint32_t piece_tiles)
      : first_cta(begin / piece_tiles),
        num_parts((end - 1) / piece_tiles - begin / piece_tiles + 1),
        first_begins_earlier(begin % piece_tiles != 0) {}

  // The slot of part i among the partial results: a block has one for the pair that its piece
  // begins with and one for the pair that it ends with.
  KVS_DEVICE uint32_t SlotOf(uint32_t part) const {
    return 2 * (first_cta + part) + (part == 0 && first_begins_earlier ? 1 : 0);
  }
};

template <class Act>
KVS_DEVICE void StoreOut(Act* to, float4 value, float factor) {
  const Act out[4] = {FromFloat<Act>(value.x * factor), FromFloat<Act>(value.y * factor),
                      FromFloat<Act>(value.z * factor), FromFloat<Act>(value.w * factor)};
  *reinterpret_cast<uint2*>(to) = *reinterpret_cast<const uint2*>(out);
}

// Joins the parts of a pair in global memory. Many loads are in flight at once, the first of them
// beside those of the states: what counts here is how often one waits for the other.
template <class Traits, class Act>
KVS_DEVICE void JoinParts(DecodeMergeSpace<Traits> space, const DecodePlan& plan,
                          const DecodePairSpan& span, uint32_t group, float v_factor, Act* out) {
  constexpr uint32_t kQuads = Traits::kHeadDim / 4;
  constexpr uint32_t kBatch = 16;  // parts
  const uint32_t num_items = group * kQuads;
  const auto load = [&](float4(&to)[kBatch], uint32_t item, uint32_t first_part) {
#pragma unroll
    for (uint32_t i = 0; i < kBatch; ++i) {
      const uint32_t part = first_part + i;
      to[i] = make_float4(0, 0, 0, 0);
      if (part < span.num_parts && item < num_items) {
        to[i] = LoadPublished(reinterpret_cast<const float4*>(plan.partial_out) +
                              span.SlotOf(part) * num_items + item);
      }
    }
  };
  float4 batch[kBatch];
  load(batch, threadIdx.x, 0);
  float2* states = reinterpret_cast<float2*>(space.out);  // [num_parts][group]
  for (uint32_t i = threadIdx.x; i < span.num_parts * group; i += blockDim.x) {
    states[i] = LoadPublished(&plan.partial_state[span.SlotOf(i / group) * group + i % group]);
  }
  __syncthreads();
  for (uint32_t item = threadIdx.x; item < num_items; item += blockDim.x) {
    const uint32_t head = item / kQuads;
    float max = -1e30f;
#pragma unroll 8
    for (uint32_t part = 0; part < span.num_parts; ++part) {
      max = fmaxf(max, states[part * group + head].x);
    }
    float sum = 0.0f;
    float4 value = make_float4(0, 0, 0, 0);
    for (uint32_t first = 0; first < span.num_parts; first += kBatch) {
      if (first != 0 || item != threadIdx.x) load(batch, item, first);
#pragma unroll
      for (uint32_t i = 0; i < kBatch; ++i) {
        if (first + i >= span.num_parts) break;
        const float2 state = states[(first + i) * group + head];
        const float weight = Exp2(state.x - max);
        sum += state.y * weight;
        value.x += batch[i].x * weight;
        value.y += batch[i].y * weight;
        value.z += batch[i].z * weight;
        value.w += batch[i].w * weight;
      }
    }
    StoreOut(out + head * Traits::kHeadDim + item % kQuads * 4, value, v_factor / sum);
  }
}

// Ends a pair, or this block's part of it: the states of `num_states` warps have been published.
// The block that finds all parts there writes the output, [group][kHeadDim] at `out`.
template <class Traits, class Act>
KVS_DEVICE void FinishPair(DecodeMergeSpace<Traits> space, uint32_t num_states,
                           const DecodePlan& plan, const DecodePairSpan& span, uint32_t* arrivals,
                           uint32_t group, float v_factor, Act* out) {
  constexpr uint32_t kQuads = Traits::kHeadDim / 4;
  __shared__ bool is_last;
  const uint32_t part = blockIdx.x - span.first_cta;
  const uint32_t slot = span.SlotOf(part);
  for (uint32_t i = threadIdx.x; i < group * kQuads; i += blockDim.x) {
    const uint32_t head = i / kQuads, quad = i % kQuads;
    float2 state;
    const float4 value = JoinWarps(space, num_states, group, head, quad, &state);
    if (span.num_parts == 1) {
      StoreOut(out + head * Traits::kHeadDim + 4 * quad, value, v_factor / state.y);
    } else {
      reinterpret_cast<float4*>(plan.partial_out)[(slot * group + head) * kQuads + quad] = value;
      if (quad == 0) plan.partial_state[slot * group + head] = state;
    }
  }
  if (span.num_parts == 1) return;
  __syncthreads();
  if (threadIdx.x == 0) {
    __threadfence();  // What all threads have stored: the barrier orders it before.
    is_last = atomicAdd(arrivals, 1u) == span.num_parts - 1;
    if (is_last) *arrivals = 0;
  }
  __syncthreads();
  if (!is_last) return;
  __threadfence();
  JoinParts(space, plan, span, group, v_factor, out);
}

}  // namespace kvs::gpu
