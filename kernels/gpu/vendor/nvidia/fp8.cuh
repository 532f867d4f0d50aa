// Conversion of FP8 pairs in hardware, from compute capability 8.9 on; kv_read.cuh and kv_codec.cuh
// have the same in software.
#pragma once

#include "gpu/gpu.h"

namespace kvs::gpu {

struct HardwareFp8 {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 890
  static constexpr bool kExists = true;

  // Two E4M3FN bytes as two f16.
  KVS_DEVICE static uint32_t WidenE4M3x2(uint32_t stored) {
    uint32_t wide;
    asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(wide) : "h"(static_cast<uint16_t>(stored)));
    return wide;
  }
  // Two values within the format's range, rounded to nearest even; the first in the lower half.
  KVS_DEVICE static uint16_t EncodeE4M3x2(float first, float second) {
    uint16_t bits;
    asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(bits) : "f"(second), "f"(first));
    return bits;
  }
  KVS_DEVICE static uint16_t EncodeE5M2x2(float first, float second) {
    uint16_t bits;
    asm("cvt.rn.satfinite.e5m2x2.f32 %0, %1, %2;" : "=h"(bits) : "f"(second), "f"(first));
    return bits;
  }
#else
  static constexpr bool kExists = false;
  KVS_DEVICE static uint32_t WidenE4M3x2(uint32_t) { return 0; }
  KVS_DEVICE static uint16_t EncodeE4M3x2(float, float) { return 0; }
  KVS_DEVICE static uint16_t EncodeE5M2x2(float, float) { return 0; }
#endif
};

}  // namespace kvs::gpu
