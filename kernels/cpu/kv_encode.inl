// The encoders of include/kvserve/float_bits.h without branches, so that the compiler can run them
// on vectors. Integer arithmetic and exact float steps only: the same bits on every instruction set
// as the scalar encoders, which the tests hold them to.
#pragma once

#include <cstdint>
#include <cstring>

#include "kvserve/dtype.h"

namespace kvs::cpu {
namespace {

inline uint32_t BitsOf(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

inline float FloatOf(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

inline uint16_t EncodeBf16(float value) {
  const uint32_t bits = BitsOf(value);
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const uint32_t nan = (bits >> 16) | 0x40u;
  return static_cast<uint16_t>((bits & 0x7fffffffu) > 0x7f800000u ? nan : rounded);
}

// A small float without its sign: kExponent and kMantissa bits; `largest` and `nan` are codes.
template <int kExponent, int kMantissa>
inline uint32_t EncodeSmall(uint32_t magnitude, uint32_t largest, uint32_t nan) {
  constexpr int kBias = (1 << (kExponent - 1)) - 1;
  constexpr int kShift = 23 - kMantissa;
  constexpr uint32_t kSmallestNormal = static_cast<uint32_t>(127 + 1 - kBias) << 23;
  const uint32_t rebased = magnitude - (static_cast<uint32_t>(127 - kBias) << 23);
  const uint32_t normal =
      (rebased + (1u << (kShift - 1)) - 1 + ((rebased >> kShift) & 1u)) >> kShift;
  // Adding 2^23 units of the smallest subnormal leaves their count, rounded, in the mantissa.
  constexpr uint32_t kMagic = static_cast<uint32_t>(127 + 1 - kBias - kMantissa + 23) << 23;
  const uint32_t subnormal = BitsOf(FloatOf(magnitude) + FloatOf(kMagic)) - kMagic;
  uint32_t code = magnitude >= kSmallestNormal ? normal : subnormal;
  code = code > largest || magnitude >= 0x7f800000u ? largest : code;
  return magnitude > 0x7f800000u ? nan : code;
}

inline uint16_t EncodeF16(float value) {
  const uint32_t bits = BitsOf(value);
  const uint32_t code = EncodeSmall<5, 10>(bits & 0x7fffffffu, 0x7c00u, 0x7e00u);
  return static_cast<uint16_t>(((bits >> 16) & 0x8000u) | code);
}

template <int kExponent, int kMantissa>
inline uint64_t EncodeFp8(const float* in, uint32_t n, float scale, uint32_t largest, uint32_t nan,
                          uint32_t largest_bits, uint8_t* out) {
  uint32_t clipped = 0;
  for (uint32_t i = 0; i < n; ++i) {
    const uint32_t bits = BitsOf(in[i] / scale);
    const uint32_t magnitude = bits & 0x7fffffffu;
    clipped += magnitude > largest_bits && magnitude <= 0x7f800000u ? 1u : 0u;
    const uint32_t code = EncodeSmall<kExponent, kMantissa>(magnitude, largest, nan);
    out[i] = static_cast<uint8_t>(((bits >> 24) & 0x80u) | code);
  }
  return clipped;
}

inline uint64_t EncodeKv(const float* in, uint32_t n, KvCacheDType dtype, float scale, void* out) {
  switch (dtype) {
    case KvCacheDType::kBf16: {
      auto* to = static_cast<uint16_t*>(out);
      for (uint32_t i = 0; i < n; ++i) to[i] = EncodeBf16(in[i] / scale);
      return 0;
    }
    case KvCacheDType::kF16: {
      auto* to = static_cast<uint16_t*>(out);
      for (uint32_t i = 0; i < n; ++i) to[i] = EncodeF16(in[i] / scale);
      return 0;
    }
    case KvCacheDType::kF32: {
      auto* to = static_cast<float*>(out);
      for (uint32_t i = 0; i < n; ++i) to[i] = in[i] / scale;
      return 0;
    }
    case KvCacheDType::kF8E4M3:
      return EncodeFp8<4, 3>(in, n, scale, 0x7eu, 0x7fu, 0x43e00000u,
                             static_cast<uint8_t*>(out));  // 448
    case KvCacheDType::kF8E5M2:
      return EncodeFp8<5, 2>(in, n, scale, 0x7bu, 0x7eu, 0x47600000u,
                             static_cast<uint8_t*>(out));  // 57344
  }
  return 0;
}

}  // namespace
}  // namespace kvs::cpu
