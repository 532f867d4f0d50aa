// What the executable looks up in this library (kvserve/gpu_plugin.h).
#include "gpu/gpu_backend.h"

#define KVS_EXPORT extern "C" __attribute__((visibility("default")))

KVS_EXPORT const char* kvserve_plugin_version() { return KVS_VERSION; }

KVS_EXPORT void kvserve_plugin_open(const kvs::GpuBackendOptions* options,
                                    kvs::Result<std::unique_ptr<kvs::Backend>>* out) {
  *out = kvs::gpu::OpenGpuBackend(*options);
}
