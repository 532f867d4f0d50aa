// Conversion of FP8 pairs in hardware, from compute capability 8.9 on; kv_read.cuh and kv_codec.cuh
// have the same in software.
#pragma once

#include "gpu/gpu.h"

namespace kvs::gpu {

struct HardwareFp8 {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 890
  static constexpr bool kExists = true;

  // E4M3FN bytes 2 half and 2 half + 1 of `stored` as two f16. The instruction itself selects the
  // half of a register, which a shift in C++ does not compile to.
  KVS_DEVICE static uint32_t WidenE4M3x2(uint32_t stored, uint32_t half) {
    uint32_t low, high;
    asm("{ .reg .b16 l, h; mov.b32 {l, h}, %1; cvt.rn.f16x2.e4m3x2 %0, l; }"
        : "=r"(low)
        : "r"(stored));
    asm("{ .reg .b16 l, h; mov.b32 {l, h}, %1; cvt.rn.f16x2.e4m3x2 %0, h; }"
        : "=r"(high)
        : "r"(stored));
    return half == 0 ? low : high;
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
  KVS_DEVICE static uint32_t WidenE4M3x2(uint32_t, uint32_t) { return 0; }
  KVS_DEVICE static uint16_t EncodeE4M3x2(float, float) { return 0; }
  KVS_DEVICE static uint16_t EncodeE5M2x2(float, float) { return 0; }
#endif
};

}  // namespace kvs::gpu
