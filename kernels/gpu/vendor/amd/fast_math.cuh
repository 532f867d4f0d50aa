// See gpu/fast_math.cuh.
#pragma once

#include "gpu/gpu.h"

namespace kvs::gpu {

// 2^value by one instruction, with the limits that vendor/nvidia/fast_math.cuh names.
KVS_DEVICE float Exp2(float value) { return __builtin_amdgcn_exp2f(value); }

}  // namespace kvs::gpu
