// Encoding of keys and values as the cache stores them: the bits of kvserve/float_bits.h for every
// float32. Conversion instructions are used where they give these bits: for values within the
// format's range. NaN and what is beyond go the way of float_bits.h.
#pragma once

#include <cstring>

#include "gpu/gpu.h"
#include "kvserve/dtype.h"
#include KVS_VENDOR_HEADER(fp8.cuh)

namespace kvs::gpu {

// A codec: the type of two codes side by side (the first in the lower half), the largest magnitude
// that is not clipped, and the encoders of one pair. EncodePlainPair is for magnitudes up to
// kLimit.
struct KvBf16 {
  using Pair = uint32_t;
  static constexpr bool kClips = false;
  static constexpr float kLimit = __builtin_inff();
  KVS_DEVICE static uint32_t Encode(float value) { return FloatToBf16(value); }
  KVS_DEVICE static uint32_t EncodePlainPair(float first, float second) {
    const Bf16 pair[2] = {FromFloat<Bf16>(first), FromFloat<Bf16>(second)};
    uint32_t bits;
    memcpy(&bits, pair, sizeof bits);
    return bits;
  }
};

struct KvF16 {
  using Pair = uint32_t;
  static constexpr bool kClips = false;
  static constexpr float kLimit = __builtin_inff();
  KVS_DEVICE static uint32_t Encode(float value) { return FloatToF16(value); }
  KVS_DEVICE static uint32_t EncodePlainPair(float first, float second) {
    const F16 pair[2] = {FromFloat<F16>(first), FromFloat<F16>(second)};
    uint32_t bits;
    memcpy(&bits, pair, sizeof bits);
    return bits;
  }
};

struct KvF8E4M3 {
  using Pair = uint16_t;
  static constexpr bool kClips = true;
  static constexpr float kLimit = kF8E4M3Max;
  KVS_DEVICE static uint32_t Encode(float value) { return FloatToF8E4M3(value); }
  KVS_DEVICE static uint16_t EncodePlainPair(float first, float second) {
    if constexpr (HardwareFp8::kExists) return HardwareFp8::EncodeE4M3x2(first, second);
    return static_cast<uint16_t>(Encode(first) | Encode(second) << 8);
  }
};

struct KvF8E5M2 {
  using Pair = uint16_t;
  static constexpr bool kClips = true;
  static constexpr float kLimit = kF8E5M2Max;
  KVS_DEVICE static uint32_t Encode(float value) { return FloatToF8E5M2(value); }
  KVS_DEVICE static uint16_t EncodePlainPair(float first, float second) {
    if constexpr (HardwareFp8::kExists) return HardwareFp8::EncodeE5M2x2(first, second);
    return static_cast<uint16_t>(Encode(first) | Encode(second) << 8);
  }
};

// Writes eight codes as one piece to `to`, aligned to its size. Returns how many values were
// clipped to the largest finite code.
template <class Codec>
KVS_DEVICE uint32_t EncodeEight(const float (&values)[8], void* to) {
  using Pair = typename Codec::Pair;
  struct alignas(4 * sizeof(Pair)) Piece {
    Pair pairs[4];
  } piece;
  bool plain = true;
#pragma unroll
  for (uint32_t i = 0; i < 8; ++i) plain = plain && fabsf(values[i]) <= Codec::kLimit;
  uint32_t num_clipped = 0;
  if (plain) {
#pragma unroll
    for (uint32_t i = 0; i < 4; ++i) {
      piece.pairs[i] = Codec::EncodePlainPair(values[2 * i], values[2 * i + 1]);
    }
  } else {
#pragma unroll
    for (uint32_t i = 0; i < 4; ++i) {
      const uint32_t second = Codec::Encode(values[2 * i + 1]);
      piece.pairs[i] =
          static_cast<Pair>(Codec::Encode(values[2 * i]) | second << (4 * sizeof(Pair)));
    }
    if constexpr (Codec::kClips) {
#pragma unroll
      for (uint32_t i = 0; i < 8; ++i) num_clipped += fabsf(values[i]) > Codec::kLimit ? 1 : 0;
    }
  }
  *static_cast<Piece*>(to) = piece;
  return num_clipped;
}

// EncodeEight to element `index` of `cache`, as `dtype`.
KVS_DEVICE uint32_t EncodeEight(const float (&values)[8], KvCacheDType dtype, void* cache,
                                size_t index) {
  uint8_t* to = static_cast<uint8_t*>(cache) + index * SizeOf(dtype);
  switch (dtype) {
    case KvCacheDType::kBf16:
      return EncodeEight<KvBf16>(values, to);
    case KvCacheDType::kF16:
      return EncodeEight<KvF16>(values, to);
    case KvCacheDType::kF8E4M3:
      return EncodeEight<KvF8E4M3>(values, to);
    case KvCacheDType::kF8E5M2:
      return EncodeEight<KvF8E5M2>(values, to);
    case KvCacheDType::kF32:
      break;
  }
  return 0;
}

}  // namespace kvs::gpu
