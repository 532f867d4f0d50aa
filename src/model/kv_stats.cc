#include "model/kv_stats.h"

#include <numeric>
#include <utility>

#include "kvserve/check.h"
#include "kvserve/float_bits.h"

namespace kvs {

uint64_t KvHeadStatistics::num_elements() const {
  return std::accumulate(counts.begin(), counts.end(), uint64_t{0});
}

void KvHeadStatistics::Reach(float magnitude) {
  if (FloatBits(magnitude) > FloatBits(largest)) largest = magnitude;
}

float KvHeadStatistics::ValueOf(uint32_t bin) {
  return bin == 0 ? 0.0f : FloatFromBits((bin << 16) | 0x8000u);
}

KvStatistics::KvStatistics(const KvLayout& layout)
    : num_layers(layout.num_layers),
      num_kv_heads(layout.num_kv_heads),
      heads(size_t{layout.num_layers} * 2 * layout.num_kv_heads) {}

Result<KvObserver> KvObserver::Make(const KvLayout& layout, bool with_counts, Backend& backend) {
  KvObserver observer(layout);
  const size_t num_heads = observer.num_heads();
  auto summary = backend.Allocate(2 * num_heads * sizeof(uint32_t), "KV statistics");
  if (!summary) return tl::unexpected(summary.error());
  observer.summary_ = std::move(*summary);
  if (!with_counts) return observer;
  auto counts =
      backend.Allocate(num_heads * kKvStatsBins * sizeof(uint32_t), "KV statistics' counts");
  if (!counts) return tl::unexpected(counts.error());
  observer.counts_ = std::move(*counts);
  return observer;
}

KvStats KvObserver::Layer(uint32_t layer) const {
  const size_t first = size_t{layer} * 2 * layout_.num_kv_heads;
  KvStats stats;
  stats.largest_bits = summary_.as<uint32_t>() + first;
  stats.num_saturated = stats.largest_bits + num_heads();
  if (counts_.data() != nullptr) stats.counts = counts_.as<uint32_t>() + first * kKvStatsBins;
  return stats;
}

void KvObserver::Collect(KvStatistics& totals, Backend& backend) {
  KVS_CHECK_OP(totals.heads.size(), ==, num_heads());
  const auto take = [&](const DeviceBuffer& buffer) {  // reads it and zeroes it
    host_.resize(buffer.bytes() / sizeof(uint32_t));
    backend.CopyToHost(host_.data(), buffer.data(), host_.size() * sizeof(uint32_t));
    const std::vector<uint32_t> zeros(host_.size());
    backend.CopyToDevice(buffer.data(), zeros.data(), zeros.size() * sizeof(uint32_t));
  };
  backend.Synchronize();
  take(summary_);
  for (size_t i = 0; i < num_heads(); ++i) {
    const float largest = FloatFromBits(host_[i]);
    KvHeadStatistics& head = totals.heads[i];
    head.Reach(largest);
    head.num_saturated += host_[num_heads() + i];
  }
  if (counts_.data() == nullptr) return;
  take(counts_);
  for (size_t i = 0; i < num_heads(); ++i) {
    std::vector<uint64_t>& counts = totals.heads[i].counts;
    counts.resize(kKvStatsBins);
    const uint32_t* gathered = &host_[i * kKvStatsBins];
    for (uint32_t bin = 0; bin < kKvStatsBins; ++bin) counts[bin] += gathered[bin];
  }
}

}  // namespace kvs
