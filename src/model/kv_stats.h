// What keys and values reach, per layer and KV head: gathered on the device by RopeKvStore while a
// model runs, added up on the host.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kvserve/backend.h"
#include "kvserve/kernel_params.h"
#include "kvserve/kv_layout.h"
#include "kvserve/status.h"

namespace kvs {

struct KvHeadStatistics {
  float largest = 0.0f;          // largest |x|; NaN when one was NaN
  uint64_t num_saturated = 0;    // elements clipped when they were stored
  std::vector<uint64_t> counts;  // [kKvStatsBins] as KvStats::counts, or empty: not gathered

  // Elements counted; 0 without counts.
  uint64_t num_elements() const;
  // Takes a magnitude into `largest`; NaN wins.
  void Reach(float magnitude);
  // The middle of a bin, which stands for every |x| in it: within 1/256 of each.
  static float ValueOf(uint32_t bin);
};

struct KvStatistics {
  KvStatistics() = default;
  explicit KvStatistics(const KvLayout& layout);

  uint32_t num_layers = 0;
  uint32_t num_kv_heads = 0;
  std::vector<KvHeadStatistics> heads;  // [num_layers][2 (K, V)][num_kv_heads]

  KvHeadStatistics& At(uint32_t layer, bool is_v, uint32_t head) {
    return heads[(size_t{layer} * 2 + (is_v ? 1 : 0)) * num_kv_heads + head];
  }
  const KvHeadStatistics& At(uint32_t layer, bool is_v, uint32_t head) const {
    return heads[(size_t{layer} * 2 + (is_v ? 1 : 0)) * num_kv_heads + head];
  }
};

// Device memory for the statistics of every layer. KvCache::Observe hands it to the kernels.
class KvObserver {
 public:
  // `with_counts`: also the distribution, 128 KiB for each head of K and of V. kOsError.
  static Result<KvObserver> Make(const KvLayout& layout, bool with_counts, Backend& backend);

  bool has_counts() const { return counts_.data() != nullptr; }
  KvStats Layer(uint32_t layer) const;

  // Adds what was gathered since the last call to `totals`, made for the same layout, and starts
  // anew. Waits for the device. REQUIRES: fewer than 2^32 elements of a head since the last call.
  void Collect(KvStatistics& totals, Backend& backend);

 private:
  explicit KvObserver(const KvLayout& layout) : layout_(layout) {}
  size_t num_heads() const { return size_t{layout_.num_layers} * 2 * layout_.num_kv_heads; }

  KvLayout layout_;
  DeviceBuffer summary_;  // uint32 [2 (largest bits, saturated)][num_layers][2][num_kv_heads]
  DeviceBuffer counts_;   // uint32 [num_layers][2][num_kv_heads][kKvStatsBins], or none
  std::vector<uint32_t> host_;
};

}  // namespace kvs
