// What a device is: for people, for `kvserve doctor`, and for rules that depend on the hardware.
#pragma once

#include <cstdint>
#include <string>

#include "kvserve/options.h"

namespace kvs {

struct DeviceInfo {
  DeviceKind kind = DeviceKind::kCpu;  // never kAuto
  uint32_t index = 0;                  // of GPUs of this kind
  std::string name;                    // as the driver gives it: "NVIDIA H200"
  std::string architecture;            // "sm_90", "gfx1100"; the CPU's instruction set
  // Versions of the GPU's programming interface, "MAJOR.MINOR"; empty on the CPU.
  std::string driver;   // that the driver offers
  std::string runtime;  // that the plugin uses
  uint32_t wave_size = 1;
  bool has_fp8_convert =
      false;  // by an instruction; FP8 is decoded by integer arithmetic otherwise
};

}  // namespace kvs
