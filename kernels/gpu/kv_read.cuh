// How stored K and V become operands of a 16-bit matrix instruction: the only dtype-aware code of
// the attention kernels. FP8 is widened to f16, which holds every FP8 value exactly and takes one
// instruction per pair where the hardware can convert.
#pragma once

#include "gpu/gpu.h"
#include "kvserve/dtype.h"
#include KVS_VENDOR_HEADER(fp8.cuh)

namespace kvs::gpu {

// Widening takes codes 2 half and 2 half + 1 of the four in `stored`; `half` is a constant once it
// is inlined. E5M2 is the upper half of f16.
KVS_DEVICE uint32_t WidenE5M2x2(uint32_t stored, uint32_t half) {
  return BytesToUpper(stored, half);
}

// Without a conversion instruction the value comes out multiplied by 2^-8 (kE4M3Rescale undoes it,
// folded into a scale): exponent and mantissa move to where f16 has them, and the exponent biases,
// 7 and 15, differ by 8. NaN, whose magnitude is all ones and alone carries into the place of the
// sign when 1 is added, gets f16's highest exponent.
KVS_DEVICE uint32_t WidenE4M3x2(uint32_t stored, uint32_t half) {
  if constexpr (HardwareFp8::kExists) return HardwareFp8::WidenE4M3x2(stored, half);
  const uint32_t upper = BytesToUpper(stored, half);
  const uint32_t magnitude = upper & 0x7f007f00u;
  const uint32_t nan = (magnitude + 0x01000100u) & 0x80008000u;
  return (upper & 0x80008000u) | ((magnitude | nan) >> 1);
}
inline constexpr float kE4M3Rescale = HardwareFp8::kExists ? 1.0f : 256.0f;

template <KvCacheDType dtype>
struct KvRead;

template <>
struct KvRead<KvCacheDType::kBf16> {
  using Compute = Bf16;
  static constexpr float kRescale = 1.0f;
};
template <>
struct KvRead<KvCacheDType::kF16> {
  using Compute = F16;
  static constexpr float kRescale = 1.0f;
};
template <>
struct KvRead<KvCacheDType::kF8E4M3> {
  using Compute = F16;
  static constexpr float kRescale = kE4M3Rescale;
  KVS_DEVICE static uint32_t Widen2(uint32_t stored, uint32_t half) {
    return WidenE4M3x2(stored, half);
  }
};
template <>
struct KvRead<KvCacheDType::kF8E5M2> {
  using Compute = F16;
  static constexpr float kRescale = 1.0f;
  KVS_DEVICE static uint32_t Widen2(uint32_t stored, uint32_t half) {
    return WidenE5M2x2(stored, half);
  }
};

}  // namespace kvs::gpu
