// The Backend of one GPU: memory, one stream, and the operations of ops.h in order.
#pragma once

#include <memory>

#include "kvserve/gpu_plugin.h"

namespace kvs::gpu {

Result<std::unique_ptr<Backend>> OpenGpuBackend(const GpuBackendOptions& options);

}  // namespace kvs::gpu
