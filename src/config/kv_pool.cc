#include "config/kv_pool.h"

#include <algorithm>
#include <fstream>
#include <string>

namespace kvs {
namespace {

uint64_t MemAvailableBytes() {
  std::ifstream file("/proc/meminfo");
  std::string name;
  while (file >> name) {
    uint64_t kib = 0;
    if (name == "MemAvailable:" && file >> kib) return kib << 10;
    std::getline(file, name);
  }
  return UINT64_MAX;
}

uint64_t ControlGroupBytes() {
  std::ifstream file("/sys/fs/cgroup/memory.max");
  uint64_t bytes = 0;
  return file >> bytes ? bytes : UINT64_MAX;  // "max" when there is no limit
}

}  // namespace

KvLayout LayoutOf(const ModelConfig& config, uint32_t block_size, KvCacheDType dtype) {
  return {config.num_layers, config.num_kv_heads, config.head_dim, block_size, dtype};
}

uint64_t BlocksInBytes(const KvLayout& layout, uint64_t bytes) {
  if (layout.num_bf16_layers > 0) return bytes / layout.BlockBytes();
  const KvLayout half = layout.As(KvCacheDType::kBf16);
  const uint64_t blocks = bytes / half.BlockBytes();
  return blocks * SizeOf(half.dtype) / SizeOf(layout.dtype);
}

uint64_t AvailableMemoryBytes() { return std::min(MemAvailableBytes(), ControlGroupBytes()); }

}  // namespace kvs
