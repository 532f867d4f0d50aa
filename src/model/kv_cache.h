// Owns the bytes of the KV cache: per layer one buffer of num_blocks blocks and the null block, and
// the scales of its heads.
#pragma once

#include <cstdint>
#include <vector>

#include "kvserve/backend.h"
#include "kvserve/kernel_params.h"
#include "kvserve/kv_layout.h"
#include "kvserve/status.h"
#include "model/kv_scales.h"
#include "model/kv_stats.h"

namespace kvs {

class KvCache {
 public:
  // Takes all memory; scales are 1. The layers in `bf16_layers` (ascending, layout.num_bf16_layers
  // of them) are stored as BF16, the others as layout.dtype. kInvalidArgument when there are more
  // slots than SlotId can number, kOsError when the memory cannot be had.
  static Result<KvCache> Make(const KvLayout& layout, uint32_t num_blocks,
                              const std::vector<uint32_t>& bf16_layers, Backend& backend);

  const KvLayout& layout() const { return layout_; }
  uint32_t num_blocks() const { return num_blocks_; }  // usable ones: ids [1, num_blocks]
  const std::vector<KvCacheDType>& layer_dtypes() const { return layer_dtypes_; }
  KvView View(uint32_t layer) const;

  // Replaces the scales; those of layers that are not FP8 count as 1. REQUIRES: nothing is stored
  // that will be read again.
  void SetScales(const KvScaleSet& scales, Backend& backend);
  const KvScaleSet& scales() const { return scales_; }
  // KvIdentity of what is stored now.
  uint64_t Identity() const { return KvIdentity(layout_, layer_dtypes_, scales_.scales); }

  // From the next step on, gathers statistics there; null stops it. REQUIRES: `observer` outlives
  // this, or the next call.
  void Observe(const KvObserver* observer) { observer_ = observer; }

 private:
  KvCache(const KvLayout& layout, uint32_t num_blocks, const std::vector<uint32_t>& bf16_layers);

  KvLayout layout_;
  uint32_t num_blocks_;
  std::vector<KvCacheDType> layer_dtypes_;  // [num_layers]
  KvScaleSet scales_;
  const KvObserver* observer_ = nullptr;
  std::vector<DeviceBuffer> layers_;  // [num_layers], each (num_blocks + 1) * LayerBlockBytes
  DeviceBuffer device_scales_;        // float [2 (K, V)][num_layers][num_kv_heads]
};

// Where the scales of an FP8 cache came from, and each layer's; nothing for other caches.
void LogKvScales(const KvCache& cache);

}  // namespace kvs
