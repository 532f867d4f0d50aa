// How the executable finds a GPU backend: libkvserve_cuda.so and libkvserve_hip.so export the two
// functions below with C names. Plugin and executable are built together; the version says so.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "kvserve/backend.h"
#include "kvserve/dtype.h"
#include "kvserve/status.h"

namespace kvs {

struct GpuBackendOptions {
  int device_index = 0;
  DType dtype = DType::kBf16;  // of weights and activations: kBf16 or kF16
  // A row's result never depends on its company, its chunking or a prefix hit, bit for bit; slower.
  bool batch_invariant = false;
  // Every operation is launched by itself: no graphs are recorded.
  bool enforce_eager = false;
  // A directory for what is tuned once per device; made when missing, empty = nothing is kept.
  std::string cache_dir;
};

inline constexpr const char* kGpuPluginVersionSymbol = "kvserve_plugin_version";
inline constexpr const char* kGpuPluginOpenSymbol = "kvserve_plugin_open";

extern "C" {
// The version of kvserve that the plugin was built with.
using GpuPluginVersion = const char* (*)();
// Opens the device; *out is then the backend or an error that says what is there and what is
// needed.
using GpuPluginOpen = void (*)(const GpuBackendOptions* options,
                               Result<std::unique_ptr<Backend>>* out);
}

}  // namespace kvs
