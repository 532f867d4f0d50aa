// Hardware approximations, good to about 2 units in the last place of float32.
#pragma once

#include "gpu/gpu.h"

namespace kvs::gpu {

// 2^value. Exactly 1 at 0 and 0 at -infinity; results below the smallest normal number are 0.
KVS_DEVICE float Exp2(float value) {
#if defined(__CUDA_ARCH__)
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(value));
  return result;
#else
  return exp2f(value);
#endif
}

}  // namespace kvs::gpu
