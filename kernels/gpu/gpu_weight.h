// A weight in device memory.
#pragma once

#include "kvserve/backend.h"
#include "kvserve/kernel_params.h"

namespace kvs::gpu {

// Row-major [out_features, in_features] of `dtype` (kBf16 or kF16), 256-byte aligned.
class GpuWeight : public LinearWeight {
 public:
  DeviceBuffer data;
};

}  // namespace kvs::gpu
