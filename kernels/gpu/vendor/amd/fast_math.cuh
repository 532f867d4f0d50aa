// See gpu/fast_math.cuh.
#pragma once

#include "gpu/gpu.h"

#if defined(__clang__) && !__has_builtin(__builtin_amdgcn_exp2f)  // LLVM 15
extern "C" __device__ float __ocml_native_exp2_f32(float);
#define __builtin_amdgcn_exp2f __ocml_native_exp2_f32
#endif

namespace kvs::gpu {

// 2^value by one instruction, with the limits that vendor/nvidia/fast_math.cuh names.
KVS_DEVICE float Exp2(float value) { return __builtin_amdgcn_exp2f(value); }

}  // namespace kvs::gpu
