#include "device/kernel_driver.h"

#include <sys/utsname.h>

#include <fstream>
#include <system_error>

namespace kvs {

std::string KernelDriverVersion(DeviceKind kind, const std::filesystem::path& sys) {
  if (kind == DeviceKind::kCpu || kind == DeviceKind::kAuto) return {};
  const auto module = sys / "module" / (kind == DeviceKind::kCuda ? "nvidia" : "amdgpu");
  std::string version;
  std::ifstream file(module / "version");
  if (std::getline(file, version) && !version.empty()) return version;
  std::error_code error;
  utsname system;
  if (!std::filesystem::is_directory(module, error) || uname(&system) != 0) return {};
  return std::string("Linux ") + system.release;
}

}  // namespace kvs
