#include "model/kv_cache.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "kvserve/check.h"

namespace kvs {

KvCache::KvCache(const KvLayout& layout, uint32_t num_blocks,
                 const std::vector<uint32_t>& bf16_layers)
    : layout_(layout),
      num_blocks_(num_blocks),
      layer_dtypes_(layout.num_layers, layout.dtype),
      scales_(KvScaleSet::Default(layout)) {
  KVS_CHECK_OP(bf16_layers.size(), ==, size_t{layout.num_bf16_layers});
  for (const uint32_t layer : bf16_layers) layer_dtypes_.at(layer) = KvCacheDType::kBf16;
}

Result<KvCache> KvCache::Make(const KvLayout& layout, uint32_t num_blocks,
                              const std::vector<uint32_t>& bf16_layers, Backend& backend) {
  const uint64_t num_slots = (uint64_t{num_blocks} + 1) * layout.block_size;
  if (num_blocks == 0 || num_slots > UINT32_MAX) {
    return Error(Code::kInvalidArgument,
                 fmt::format("a KV cache of {} blocks of {} tokens; supported are 1 to {} blocks",
                             num_blocks, layout.block_size, UINT32_MAX / layout.block_size - 1));
  }
  const size_t num_scales = size_t{layout.num_layers} * layout.num_kv_heads;
  KvCache cache(layout, num_blocks, bf16_layers);
  auto device_scales = backend.Allocate(2 * num_scales * sizeof(float), "KV scales");
  if (!device_scales) return tl::unexpected(device_scales.error());
  cache.device_scales_ = std::move(*device_scales);
  cache.SetScales(KvScaleSet::Default(layout), backend);

  for (const KvCacheDType dtype : cache.layer_dtypes_) {
    auto buffer = backend.AllocatePool(
        (size_t{num_blocks} + 1) * layout.As(dtype).LayerBlockBytes(), "KV cache");
    if (!buffer) {
      return tl::unexpected(buffer.error().WithContext(
          fmt::format("KV cache of {} bytes", (uint64_t{num_blocks} + 1) * layout.BlockBytes())));
    }
    cache.layers_.push_back(std::move(*buffer));
  }
  return cache;
}

void KvCache::SetScales(const KvScaleSet& scales, Backend& backend) {
  const size_t num_scales = size_t{layout_.num_layers} * layout_.num_kv_heads;
  KVS_CHECK_OP(scales.scales.k.size(), ==, num_scales);
  KVS_CHECK_OP(scales.scales.v.size(), ==, num_scales);
  scales_ = scales;
  for (uint32_t layer = 0; layer < layout_.num_layers; ++layer) {
    if (IsFp8(layer_dtypes_[layer])) continue;
    const size_t first = size_t{layer} * layout_.num_kv_heads;
    std::fill_n(scales_.scales.k.begin() + static_cast<ptrdiff_t>(first), layout_.num_kv_heads, 1);
    std::fill_n(scales_.scales.v.begin() + static_cast<ptrdiff_t>(first), layout_.num_kv_heads, 1);
    if (!scales_.origins.empty()) scales_.origins[layer] = {};
  }
  float* device = device_scales_.as<float>();
  backend.CopyToDevice(device, scales_.scales.k.data(), num_scales * sizeof(float));
  backend.CopyToDevice(device + num_scales, scales_.scales.v.data(), num_scales * sizeof(float));
}

void LogKvScales(const KvCache& cache) {
  const KvScaleSet& set = cache.scales();
  const uint32_t num_kv_heads = cache.layout().num_kv_heads;
  if (!IsFp8(cache.layout().dtype)) return;
  LOG_INFO("KV scales: source={} granularity={} layers={} in_bf16={}", ToString(set.source),
           set.IsPerHead(num_kv_heads) ? "attn_head" : "tensor", cache.layout().num_layers,
           cache.layout().num_bf16_layers);
  if (set.source == KvScaleSource::kDefault) return;
  const std::vector<std::string> lines = DescribeKvScales(set, num_kv_heads);
  for (size_t layer = 0; layer < lines.size(); ++layer) {
    LOG_INFO("KV scales: {}{}", lines[layer],
             IsFp8(cache.layer_dtypes()[layer]) ? "" : " (stored as bfloat16)");
  }
}

KvView KvCache::View(uint32_t layer) const {
  const float* k_scales = device_scales_.as<float>() + size_t{layer} * layout_.num_kv_heads;
  const float* v_scales = k_scales + size_t{layout_.num_layers} * layout_.num_kv_heads;
  return {layers_[layer].data(), k_scales, v_scales, layout_.As(layer_dtypes_[layer]),
          observer_ == nullptr ? KvStats{} : observer_->Layer(layer)};
}

}  // namespace kvs
