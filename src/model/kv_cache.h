// Owns the bytes of the KV cache: per layer one buffer of num_blocks blocks and the null block, and
// the scales of its heads.
#pragma once

#include <cstdint>
#include <vector>

#include "kvserve/backend.h"
#include "kvserve/kernel_params.h"
#include "kvserve/kv_layout.h"
#include "kvserve/status.h"
#include "model/model.h"

namespace kvs {

class KvCache {
 public:
  // Takes all memory. kInvalidArgument when there are more slots than SlotId can number, kOsError
  // when the memory cannot be had.
  static Result<KvCache> Make(const KvLayout& layout, uint32_t num_blocks, const KvScales& scales,
                              Backend& backend);

  const KvLayout& layout() const { return layout_; }
  uint32_t num_blocks() const { return num_blocks_; }  // usable ones: ids [1, num_blocks]
  KvView View(uint32_t layer) const;
  // Replaces the scales. REQUIRES: nothing is stored that will be read again.
  void SetScales(const KvScales& scales, Backend& backend);

 private:
  KvCache(const KvLayout& layout, uint32_t num_blocks) : layout_(layout), num_blocks_(num_blocks) {}

  KvLayout layout_;
  uint32_t num_blocks_;
  std::vector<DeviceBuffer> layers_;  // [num_layers], each (num_blocks + 1) * LayerBlockBytes
  DeviceBuffer scales_;               // float [2 (K, V)][num_layers][num_kv_heads]
};

}  // namespace kvs
