// Opening the device and testing FP8 on it, in a process of its own: a driver that crashes or hangs
// ends that process, and the doctor goes on. Two halves: what that process does (`kvserve doctor
// --probe`, which prints JSON), and how the doctor reads it.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "config/config.h"
#include "doctor/fp8_self_test.h"
#include "kvserve/backend.h"
#include "kvserve/model_config.h"

namespace kvs {

struct ProbeReport {
  DeviceInfo info;
  std::string kernel_driver;
  std::string description;             // Backend::Describe
  std::optional<DeviceMemory> memory;  // of the device's own
  std::vector<Fp8SelfTestReport> fp8;  // one for each type
  std::string fp8_error;               // why there are none
};

// Opens the device and runs the tests. `model` decides the shapes, where it is known.
Result<ProbeReport> ProbeDevice(const DeviceOptions& device, const ModelConfig* model,
                                uint32_t block_size);

// {"device": {...}, "memory": {...} or null, "fp8": [...], "fp8_error": "..."}, or
// {"error": {"exit_code": N, "message": "..."}} for what cannot be opened.
std::string ProbeJson(const Result<ProbeReport>& report);
// The reverse; an error is that of the probe. kInternal for what is no such JSON.
Result<ProbeReport> ParseProbe(const std::string& json);

}  // namespace kvs
