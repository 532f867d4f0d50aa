// 16 bytes at a time: the widest access of one thread.
#pragma once

#include "gpu/gpu.h"

namespace kvs::gpu {

// Eight 16-bit values, loaded and stored as one piece. Addresses are 16-byte aligned.
template <class T>
struct alignas(16) Vec8 {
  static constexpr uint32_t kSize = 8;
  static_assert(sizeof(T) == 2);

  T values[kSize];

  KVS_DEVICE T& operator[](uint32_t i) { return values[i]; }
  KVS_DEVICE const T& operator[](uint32_t i) const { return values[i]; }

  // The piece at element piece * 8 of `from`.
  KVS_DEVICE static Vec8 Load(const T* from, size_t piece) {
    Vec8 out;
    *reinterpret_cast<uint4*>(out.values) = reinterpret_cast<const uint4*>(from)[piece];
    return out;
  }
  KVS_DEVICE void Store(T* to, size_t piece) const {
    reinterpret_cast<uint4*>(to)[piece] = *reinterpret_cast<const uint4*>(values);
  }
};

// `value` as a T: rounded through float32 where the types differ, else the same bits.
template <class T, class From>
KVS_DEVICE T Convert(From value) {
  return FromFloat<T>(ToFloat(value));
}
template <>
KVS_DEVICE Bf16 Convert<Bf16, Bf16>(Bf16 value) {
  return value;
}
template <>
KVS_DEVICE F16 Convert<F16, F16>(F16 value) {
  return value;
}

}  // namespace kvs::gpu
