// See gpu/fast_math.cuh.
#pragma once

#include "gpu/gpu.h"

namespace kvs::gpu {

// 2^value. Exactly 1 at 0 and 0 at -infinity; results below the smallest normal number are 0.
KVS_DEVICE float Exp2(float value) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(value));
  return result;
}

}  // namespace kvs::gpu
