// From --device to a Backend: the CPU's is part of the executable, those of GPUs are libraries that
// lie beside it and are loaded when asked for.
#pragma once

#include <filesystem>
#include <memory>

#include "kvserve/backend.h"
#include "kvserve/dtype.h"
#include "kvserve/options.h"
#include "kvserve/status.h"

namespace kvs {

struct OpenBackendOptions {
  DeviceOptions device;
  DType dtype = DType::kBf16;       // of weights, resolved
  std::filesystem::path cache_dir;  // for what a device tunes once; empty = nothing is kept
};

// kUnavailable says what is missing: the library, a driver, a device. `auto` takes a GPU when its
// library is there and opens, else the CPU; why a library that is there did not open is logged.
Result<std::unique_ptr<Backend>> OpenBackend(const OpenBackendOptions& options);

}  // namespace kvs
