// Reading rows of logits: by warps in chunks, by blocks as a whole, and the keys by which the
// largest logit is found.
#pragma once

#include "gpu/gpu.h"
#include "gpu/reduce.cuh"
#include "gpu/sample_batch.h"

namespace kvs::gpu {

inline constexpr uint32_t kLaneValues = kSampleChunk / kWarpSize;
inline constexpr float kMinusInfinity = -__builtin_inff();

// Ascends with the value; -0 and 0 are one.
KVS_DEVICE uint32_t OrderedBits(float value) {
  const uint32_t bits = FloatBits(value + 0.0f);
  return bits ^ ((bits >> 31) != 0 ? 0xffffffffu : 0x80000000u);
}

// The larger key has the larger logit, or the same and the lower token.
KVS_DEVICE uint64_t MaxKey(float value, uint32_t token) {
  return uint64_t{OrderedBits(value)} << 32 | (0xffffffffu - token);
}
// Larger than every key: the row holds NaN or +infinity.
inline constexpr uint64_t kBrokenKey = ~uint64_t{0};

KVS_DEVICE float MaxValue(uint64_t key) {
  const auto ordered = static_cast<uint32_t>(key >> 32);
  return FloatFromBits(ordered ^ ((ordered >> 31) != 0 ? 0x80000000u : 0xffffffffu));
}
KVS_DEVICE TokenId MaxToken(uint64_t key) {
  if (key == kBrokenKey || MaxValue(key) == kMinusInfinity) return kNoToken;
  return TokenId{0xffffffffu - static_cast<uint32_t>(key)};
}
KVS_DEVICE uint64_t Larger(uint64_t a, uint64_t b) { return a > b ? a : b; }

// Rows of a vocabulary that is no multiple of 4 are not aligned to 16 bytes.
KVS_DEVICE bool ReadsByFour(uint32_t vocab_size) { return vocab_size % 4 == 0; }

// A lane's share of the chunk that begins at `first`, in ascending order of tokens; -infinity past
// the row's end.
KVS_DEVICE void LoadChunk(const float* row, uint32_t vocab_size, uint32_t first,
                          float (&values)[kLaneValues]) {
  const uint32_t lane = threadIdx.x % kWarpSize;
  if (ReadsByFour(vocab_size)) {
#pragma unroll
    for (uint32_t i = 0; i < kLaneValues; i += 4) {
      const uint32_t at = first + i * kWarpSize + lane * 4;
      const float4 four = at < vocab_size ? *reinterpret_cast<const float4*>(row + at)
                                          : make_float4(kMinusInfinity, kMinusInfinity,
                                                        kMinusInfinity, kMinusInfinity);
      values[i] = four.x, values[i + 1] = four.y, values[i + 2] = four.z, values[i + 3] = four.w;
    }
  } else {
#pragma unroll
    for (uint32_t i = 0; i < kLaneValues; ++i) {
      const uint32_t at = first + i * kWarpSize + lane;
      values[i] = at < vocab_size ? row[at] : kMinusInfinity;
    }
  }
}

// The token of values[index] of LoadChunk.
KVS_DEVICE uint32_t ChunkToken(uint32_t vocab_size, uint32_t first, uint32_t index) {
  const uint32_t lane = threadIdx.x % kWarpSize;
  if (!ReadsByFour(vocab_size)) return first + index * kWarpSize + lane;
  return first + index / 4 * 4 * kWarpSize + lane * 4 + index % 4;
}

// The largest key of a lane's share.
KVS_DEVICE uint64_t LaneMaxKey(const float (&values)[kLaneValues], uint32_t vocab_size,
                               uint32_t first) {
  float largest = values[0];
  uint32_t at = 0;
  bool plain = values[0] < __builtin_inff();  // false for NaN
#pragma unroll
  for (uint32_t i = 1; i < kLaneValues; ++i) {
    plain = plain && values[i] < __builtin_inff();
    if (values[i] > largest) {
      largest = values[i];
      at = i;
    }
  }
  return plain ? MaxKey(largest, ChunkToken(vocab_size, first, at)) : kBrokenKey;
}

// Calls fn(value, token) for the logits of tokens [begin, end), by the whole block. `begin` is a
// multiple of 4, and so is `end` unless it is the row's.
template <class F>
KVS_DEVICE void ForEachLogit(const float* row, uint32_t vocab_size, uint32_t begin, uint32_t end,
                             const F& fn) {
  if (ReadsByFour(vocab_size)) {
#pragma unroll 4
    for (uint32_t at = begin + 4 * threadIdx.x; at < end; at += 4 * blockDim.x) {
      const float4 four = *reinterpret_cast<const float4*>(row + at);
      fn(four.x, at);
      fn(four.y, at + 1);
      fn(four.z, at + 2);
      fn(four.w, at + 3);
    }
  } else {
#pragma unroll 4
    for (uint32_t at = begin + threadIdx.x; at < end; at += blockDim.x) fn(row[at], at);
  }
}
template <class F>
KVS_DEVICE void ForEachLogit(const float* row, uint32_t vocab_size, const F& fn) {
  ForEachLogit(row, vocab_size, 0, vocab_size, fn);
}

}  // namespace kvs::gpu
