// The version of the GPU's kernel module.
#pragma once

#include <filesystem>
#include <string>

#include "kvserve/options.h"

namespace kvs {

// What `sys`/module/nvidia/version or amdgpu/version says. AMD's module that comes with the kernel
// has none of its own: "Linux RELEASE" then. Empty on the CPU, and where no such module is loaded.
std::string KernelDriverVersion(DeviceKind kind, const std::filesystem::path& sys = "/sys");

}  // namespace kvs
