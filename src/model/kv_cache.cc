#include "model/kv_cache.h"

#include <fmt/format.h>

#include <utility>

#include "kvserve/check.h"

namespace kvs {

Result<KvCache> KvCache::Make(const KvLayout& layout, uint32_t num_blocks, const KvScales& scales,
                              Backend& backend) {
  const uint64_t num_slots = (uint64_t{num_blocks} + 1) * layout.block_size;
  if (num_blocks == 0 || num_slots > UINT32_MAX) {
    return Error(Code::kInvalidArgument,
                 fmt::format("a KV cache of {} blocks of {} tokens; supported are 1 to {} blocks",
                             num_blocks, layout.block_size, UINT32_MAX / layout.block_size - 1));
  }
  const size_t num_scales = size_t{layout.num_layers} * layout.num_kv_heads;
  KvCache cache(layout, num_blocks);
  auto device_scales = backend.Allocate(2 * num_scales * sizeof(float), "KV scales");
  if (!device_scales) return tl::unexpected(device_scales.error());
  cache.scales_ = std::move(*device_scales);
  cache.SetScales(scales, backend);

  const size_t layer_bytes = (size_t{num_blocks} + 1) * layout.LayerBlockBytes();
  for (uint32_t layer = 0; layer < layout.num_layers; ++layer) {
    auto buffer = backend.Allocate(layer_bytes, "KV cache");
    if (!buffer) {
      return tl::unexpected(buffer.error().WithContext(
          fmt::format("KV cache of {} bytes", layer_bytes * layout.num_layers)));
    }
    cache.layers_.push_back(std::move(*buffer));
  }
  return cache;
}

void KvCache::SetScales(const KvScales& scales, Backend& backend) {
  const size_t num_scales = size_t{layout_.num_layers} * layout_.num_kv_heads;
  KVS_CHECK_OP(scales.k.size(), ==, num_scales);
  KVS_CHECK_OP(scales.v.size(), ==, num_scales);
  float* device = scales_.as<float>();
  backend.CopyToDevice(device, scales.k.data(), num_scales * sizeof(float));
  backend.CopyToDevice(device + num_scales, scales.v.data(), num_scales * sizeof(float));
}

KvView KvCache::View(uint32_t layer) const {
  const float* k_scales = scales_.as<float>() + size_t{layer} * layout_.num_kv_heads;
  const float* v_scales = k_scales + size_t{layout_.num_layers} * layout_.num_kv_heads;
  return {layers_[layer].data(), k_scales, v_scales, layout_};
}

}  // namespace kvs
