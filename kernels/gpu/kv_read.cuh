// How stored K and V become operands of a 16-bit matrix instruction: the only dtype-aware code of
// the attention kernels. FP8 is widened to f16, which holds every FP8 value exactly and takes one
// instruction per pair where the hardware can convert.
#pragma once

#include "gpu/gpu.h"
#include "kvserve/dtype.h"
#include KVS_VENDOR_HEADER(fp8.cuh)

namespace kvs::gpu {

// `stored` holds two E4M3FN bytes in its low half. Without a conversion instruction the value comes
// out multiplied by 2^-8 (kE4M3Rescale undoes it, folded into a scale): sign, exponent and mantissa
// move to where f16 has them, and the exponent biases, 7 and 15, differ by 8.
KVS_DEVICE uint32_t WidenE4M3x2(uint32_t stored) {
  if constexpr (HardwareFp8::kExists) return HardwareFp8::WidenE4M3x2(stored);
  const uint32_t spread = (stored & 0xffu) | ((stored & 0xff00u) << 8);
  return ((spread & 0x00800080u) << 8) | ((spread & 0x007f007fu) << 7);
}
inline constexpr float kE4M3Rescale = HardwareFp8::kExists ? 1.0f : 256.0f;

// E5M2 is the upper half of f16.
KVS_DEVICE uint32_t WidenE5M2x2(uint32_t stored) {
  return ((stored & 0xffu) << 8) | ((stored & 0xff00u) << 16);
}

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
  KVS_DEVICE static uint32_t Widen2(uint32_t stored) { return WidenE4M3x2(stored); }
};
template <>
struct KvRead<KvCacheDType::kF8E5M2> {
  using Compute = F16;
  static constexpr float kRescale = 1.0f;
  KVS_DEVICE static uint32_t Widen2(uint32_t stored) { return WidenE5M2x2(stored); }
};

}  // namespace kvs::gpu
