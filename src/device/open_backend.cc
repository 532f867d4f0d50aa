#include "device/open_backend.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <array>
#include <optional>
#include <string>
#include <system_error>
#include <utility>

#include "base/log.h"
#include "kvserve/gpu_plugin.h"

namespace kvs {
namespace {

namespace fs = std::filesystem;

const char* NameOf(DeviceKind kind) { return kind == DeviceKind::kCuda ? "cuda" : "hip"; }

// Beside the executable, where the build puts the plugin, or ../lib of an installation.
std::optional<fs::path> FindPlugin(const std::string& file_name) {
  std::error_code error;
  const fs::path executable = fs::read_symlink("/proc/self/exe", error);
  if (error) return std::nullopt;
  const fs::path folder = executable.parent_path();
  const std::array<fs::path, 3> folders = {folder, folder.parent_path() / "lib" / "kvserve",
                                           folder.parent_path() / "kernels" / "gpu"};
  for (const fs::path& candidate : folders) {
    if (fs::is_regular_file(candidate / file_name, error)) return candidate / file_name;
  }
  return std::nullopt;
}

tl::unexpected<Status> Unavailable(DeviceKind kind, const std::string& problem) {
  return Error(Code::kUnavailable, fmt::format("--device {}: {}", NameOf(kind), problem),
               "--device");
}

Result<std::unique_ptr<Backend>> OpenPlugin(DeviceKind kind, const fs::path& path,
                                            const OpenBackendOptions& options) {
  // Never closed: its code runs until the process ends.
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    const char* why = dlerror();  // NOLINT(concurrency-mt-unsafe): of this thread
    return Unavailable(kind, fmt::format("{} cannot be loaded: {}", path.string(), why));
  }
  const auto version = reinterpret_cast<GpuPluginVersion>(dlsym(library, kGpuPluginVersionSymbol));
  const auto open = reinterpret_cast<GpuPluginOpen>(dlsym(library, kGpuPluginOpenSymbol));
  if (version == nullptr || open == nullptr) {
    return Unavailable(kind, fmt::format("{} is not a plugin of kvserve", path.string()));
  }
  if (std::string(version()) != KVS_VERSION) {
    return Unavailable(kind,
                       fmt::format("{} is of kvserve {}, but this is kvserve {}; install both "
                                   "from one build",
                                   path.string(), version(), KVS_VERSION));
  }
  GpuBackendOptions gpu;
  gpu.device_index = static_cast<int>(options.device.device_index);
  gpu.dtype = options.dtype;
  gpu.batch_invariant = options.device.batch_invariant;
  gpu.enforce_eager = options.device.enforce_eager;
  gpu.cache_dir = options.cache_dir.string();
  Result<std::unique_ptr<Backend>> backend = Unavailable(kind, "the plugin gave no backend");
  open(&gpu, &backend);
  return backend;
}

Result<std::unique_ptr<Backend>> OpenGpu(DeviceKind kind, const OpenBackendOptions& options) {
  const std::string file_name = fmt::format("libkvserve_{}.so", NameOf(kind));
  const auto path = FindPlugin(file_name);
  if (!path) {
    return Unavailable(kind, fmt::format("{} is not beside the executable; build it with `cmake "
                                         "--preset {}`, or use --device cpu",
                                         file_name, NameOf(kind)));
  }
  return OpenPlugin(kind, *path, options);
}

Result<std::unique_ptr<Backend>> OpenCpu(const DeviceOptions& device) {
  if (device.batch_invariant || device.enforce_eager) {
    LOG_INFO("device: the CPU is batch-invariant and records nothing, whatever is asked for");
  }
  return MakeCpuBackend(
      {.num_threads = device.num_threads, .instruction_set = device.cpu_instruction_set});
}

}  // namespace

Result<std::unique_ptr<Backend>> OpenBackend(const OpenBackendOptions& options) {
  const DeviceKind kind = options.device.device;
  if (kind == DeviceKind::kCpu) return OpenCpu(options.device);
  if (kind != DeviceKind::kAuto) return OpenGpu(kind, options);
  for (const DeviceKind gpu : {DeviceKind::kCuda, DeviceKind::kHip}) {
    if (!FindPlugin(fmt::format("libkvserve_{}.so", NameOf(gpu)))) continue;
    auto backend = OpenGpu(gpu, options);
    if (backend) return backend;
    LOG_INFO("device auto: not {}: {}", NameOf(gpu), backend.error().message());
  }
  return OpenCpu(options.device);
}

}  // namespace kvs
