// Device, driver, FP8 on the device, memory and port: lines of the report.
#pragma once

#include <string>
#include <vector>

#include "doctor/check.h"
#include "doctor/device_probe.h"
#include "kvserve/model_config.h"

namespace kvs {

// "device", "driver" and one "FP8" line for each type.
std::vector<Check> CheckDevice(const ProbeReport& probe);

// Whether weights and buffers fit, and what is left for the KV cache. `weight_bytes` as on disk;
// `free_host_bytes` counts where the device computes in the host's memory.
Check CheckMemory(const ProbeReport& probe, const ModelConfig& config, uint64_t weight_bytes,
                  uint64_t free_host_bytes);

// Whether the daemon can listen there.
Check CheckPort(const std::string& host, uint16_t port);

}  // namespace kvs
