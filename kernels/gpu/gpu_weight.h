// A weight in device memory.
#pragma once

#include "kvserve/backend.h"
#include "kvserve/kernel_params.h"

namespace kvs::gpu {

// Row-major [out_features, in_features] of `dtype` (kBf16, kF16 or kF8E4M3), 256-byte aligned.
class GpuWeight : public LinearWeight {
 public:
  DeviceBuffer data;

  // Of kF8E4M3, as HostMatrix has them.
  DeviceBuffer row_scales;  // float32 [out_features]
  float input_scale = 0.0f;
};

}  // namespace kvs::gpu
