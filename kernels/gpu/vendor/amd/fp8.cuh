// See vendor/nvidia/fp8.cuh. gfx94x converts FP8 in hardware, but another FP8 (FNUZ: another bias,
// no negative zero) than the OCP formats that the cache stores, so that nothing here may use it.
#pragma once

#include "gpu/gpu.h"

namespace kvs::gpu {

struct HardwareFp8 {
  static constexpr bool kExists = false;
  KVS_DEVICE static uint32_t WidenE4M3x2(uint32_t, uint32_t) { return 0; }
  KVS_DEVICE static uint16_t EncodeE4M3x2(float, float) { return 0; }
  KVS_DEVICE static uint16_t EncodeE5M2x2(float, float) { return 0; }
};

}  // namespace kvs::gpu
