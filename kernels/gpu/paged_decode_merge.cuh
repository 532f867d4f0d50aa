// Joining partial softmax states: of the warps of a block, then of the blocks that share a pair.
// Two states over disjoint tokens, (m1, l1, o1) and (m2, l2, o2), join to m = max(m1, m2),
// l = l1 2^(m1-m) + l2 2^(m2-m), and o likewise (Milakov & Gimelshein 2018, base 2).
#pragma once

#include "gpu/paged_decode.cuh"

namespace kvs::gpu {

// The maximum where there is no token; finite, so that the difference of two of them is a number.
constexpr float kNoMaximum = -1e30f;

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

KVS_DEVICE void AddScaled(float4 value, float factor, float4& sum) {
  sum.x += value.x * factor;
  sum.y += value.y * factor;
  sum.z += value.z * factor;
  sum.w += value.w * factor;
}

// Joins the warps' states of one head, for four of its dims.
template <class Traits>
KVS_DEVICE float4 JoinWarps(DecodeMergeSpace<Traits> space, uint32_t num_warps, uint32_t group,
                            uint32_t head, uint32_t quad, float2* joined) {
  float max = kNoMaximum;
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
    AddScaled(part, weight, out);
  }
  *joined = make_float2(max, sum);
  return out;
}

// Which pieces share the pair that `at` is in.
struct DecodePairSpan {
  uint32_t num_parts;
  bool is_first;  // this block's part

  // In piece `piece`; `tiles_before` as in DecodeSeq.
  KVS_DEVICE DecodePairSpan(const DecodeCursor& at, uint32_t piece, uint32_t tiles_before,
                            uint32_t num_kv_heads, uint32_t piece_tiles) {
    const uint32_t begin = tiles_before * num_kv_heads + at.kv_head * at.info.num_tiles;
    const uint32_t first_piece = begin / piece_tiles;
    num_parts = (begin + at.info.num_tiles - 1) / piece_tiles - first_piece + 1;
    is_first = piece == first_piece;
  }
};

template <class Act>
KVS_DEVICE void StoreOut(Act* to, float4 value, float factor) {
  const Act out[4] = {FromFloat<Act>(value.x * factor), FromFloat<Act>(value.y * factor),
                      FromFloat<Act>(value.z * factor), FromFloat<Act>(value.w * factor)};
  *reinterpret_cast<uint2*>(to) = *reinterpret_cast<const uint2*>(out);
}

// A part in global memory has every bit turned over, and zero is a word that is not there: not yet,
// or no longer. So blocks need neither a fence nor a counter for it, and need not stay until it has
// arrived. The one number without a place of its own, a NaN that no arithmetic makes, becomes
// another NaN.
KVS_DEVICE uint32_t PartWord(float value) {
  const uint32_t bits = FloatBits(value);
  return bits == 0xffffffffu ? 0x80000000u : ~bits;
}
KVS_DEVICE float FromPartWord(uint32_t word) { return FloatFromBits(~word); }

KVS_DEVICE void StorePart(const DecodePlan& plan, size_t slot_head, uint32_t num_quads,
                          uint32_t quad, float2 state, float4 value) {
  StorePublished(plan.partial_out + slot_head * num_quads + quad,
                 uint4{PartWord(value.x), PartWord(value.y), PartWord(value.z), PartWord(value.w)});
  if (quad == 0) {
    StorePublished(plan.partial_state + slot_head, uint2{PartWord(state.x), PartWord(state.y)});
  }
}

// Four dims of one head of one part, as a lane of the block that ends the pair takes them.
struct PartQuad {
  uint2 state;
  uint4 value;

  KVS_DEVICE bool IsThere() const {
    return state.x != 0 && state.y != 0 && value.x != 0 && value.y != 0 && value.z != 0 &&
           value.w != 0;
  }
};

// The running join of the parts that a lane takes.
struct JoinedQuad {
  float max = kNoMaximum;
  float sum = 0.0f;
  float4 out = {0, 0, 0, 0};

  KVS_DEVICE void Take(const PartQuad& part) {
    const float other = FromPartWord(part.state.x);
    const float top = fmaxf(max, other);
    const float factor = Exp2(max - top), weight = Exp2(other - top);
    max = top;
    sum = sum * factor + FromPartWord(part.state.y) * weight;
    out.x *= factor, out.y *= factor, out.z *= factor, out.w *= factor;
    AddScaled(make_float4(FromPartWord(part.value.x), FromPartWord(part.value.y),
                          FromPartWord(part.value.z), FromPartWord(part.value.w)),
              weight, out);
  }
};

// Joins the parts of the `num_parts` blocks before this one, whose pieces follow its own, to the
// states in `space`: warp w takes parts w, w + num_warps and so on. Takes them out of global
// memory.
template <class Traits>
KVS_DEVICE void TakeParts(DecodeMergeSpace<Traits> space, uint32_t num_warps, uint32_t num_states,
                          const DecodePlan& plan, uint32_t num_parts, uint32_t group) {
  constexpr uint32_t kQuads = Traits::kHeadDim / 4;
  constexpr uint32_t kItems = Traits::kJoinQuads, kAhead = Traits::kJoinParts;
  static_assert(kItems * kWarpSize % kQuads == 0);
  const uint32_t num_items = group * kQuads;
  // Where a warp takes one head at a time, all of its lanes have an item.
  const auto exists = [=](uint32_t i) { return kItems * kWarpSize == kQuads || i < num_items; };
  const uint32_t thread = Opaque(threadIdx.x);
  const uint32_t warp = thread / kWarpSize, lane = thread % kWarpSize;
  if (warp >= num_warps || warp >= num_parts) return;
#pragma unroll 1
  for (uint32_t first = lane; first - lane < num_items; first += kItems * kWarpSize) {
    JoinedQuad joined[kItems];
    const auto at = [&](uint32_t i) { return warp * group + (first + i * kWarpSize) / kQuads; };
    const auto out = [&](uint32_t i) {
      return reinterpret_cast<float4*>(space.out + at(i) * Traits::kHeadStride) +
             (first + i * kWarpSize) % kQuads;
    };
#pragma unroll
    for (uint32_t i = 0; i < kItems; ++i) {
      if (!exists(first + i * kWarpSize) || warp >= num_states) continue;
      joined[i] = {space.state[at(i)].x, space.state[at(i)].y, *out(i)};
    }
#pragma unroll 1
    for (uint32_t part = warp; part < num_parts; part += kAhead * num_warps) {
      PartQuad quads[kAhead][kItems];
      const auto for_each = [&](auto&& f) {
#pragma unroll
        for (uint32_t a = 0; a < kAhead; ++a) {
          const uint32_t slot = blockIdx.x - 1 - (part + a * num_warps);
#pragma unroll
          for (uint32_t i = 0; i < kItems; ++i) {
            const uint32_t item = first + i * kWarpSize;
            if (part + a * num_warps >= num_parts || !exists(item)) continue;
            f(quads[a][i], plan.partial_state + slot * group + item / kQuads,
              plan.partial_out + slot * num_items + item, item, joined[i]);
          }
        }
      };
      bool all_there;
      do {
        all_there = true;
        for_each(
            [&](PartQuad& quad, const uint2* state, const uint4* value, uint32_t, JoinedQuad&) {
              quad.state = LoadPublished(state);
              quad.value = LoadPublished(value);
            });
        for_each([&](PartQuad& quad, const uint2*, const uint4*, uint32_t, JoinedQuad&) {
          all_there = all_there && quad.IsThere();
        });
      } while (!all_there);
      SyncWarp();  // All lanes of a head have its state.
      for_each([&](PartQuad& quad, uint2* state, uint4* value, uint32_t item, JoinedQuad& to) {
        StorePublished(value, uint4{0, 0, 0, 0});
        if (item % kQuads == 0) StorePublished(state, uint2{0, 0});
        to.Take(quad);
      });
    }
#pragma unroll
    for (uint32_t i = 0; i < kItems; ++i) {
      if (!exists(first + i * kWarpSize)) continue;
      *out(i) = joined[i].out;
      if ((first + i * kWarpSize) % kQuads == 0) {
        space.state[at(i)] = make_float2(joined[i].max, joined[i].sum);
      }
    }
  }
}

// Ends a pair, or this block's part of it: `num_states` of the `num_warps` states that `space` has
// room for have been published. The block of the first part, for which the pair is the last of its
// piece, writes the output, [group][kHeadDim] at `out`. The other parts are the first of theirs and
// wait for none, so that no block waits for one that waits.
template <class Traits, class Act>
KVS_DEVICE void FinishPair(DecodeMergeSpace<Traits> space, uint32_t num_warps, uint32_t num_states,
                           const DecodePlan& plan, const DecodePairSpan& span, uint32_t group,
                           float v_factor, Act* out) {
  constexpr uint32_t kQuads = Traits::kHeadDim / 4;
  if (span.is_first && span.num_parts > 1) {
    const uint32_t others = span.num_parts - 1;
    TakeParts(space, num_warps, num_states, plan, others, group);
    __syncthreads();
    num_states = max(num_states, min(num_warps, others));
  }
  for (uint32_t i = Opaque(threadIdx.x); i < group * kQuads; i += blockDim.x) {
    const uint32_t head = i / kQuads, quad = i % kQuads;
    float2 state;
    const float4 value = JoinWarps(space, num_states, group, head, quad, &state);
    if (span.is_first) {
      StoreOut(out + head * Traits::kHeadDim + 4 * quad, value, v_factor / state.y);
    } else {
      StorePart(plan, size_t{blockIdx.x} * group + head, kQuads, quad, state, value);
    }
  }
}

}  // namespace kvs::gpu
