#include "cpu/kv_stats.h"

#include <algorithm>
#include <cstring>

#include "kvserve/float_bits.h"

namespace kvs::cpu {
namespace {

// Bits of the largest finite code as a float32; no magnitude of a wider format is above it.
uint32_t LargestCodeBits(KvCacheDType dtype) {
  switch (dtype) {
    case KvCacheDType::kF8E4M3:
      return FloatBits(kF8E4M3Max);
    case KvCacheDType::kF8E5M2:
      return FloatBits(kF8E5M2Max);
    case KvCacheDType::kBf16:
    case KvCacheDType::kF16:
    case KvCacheDType::kF32:
      return UINT32_MAX;
  }
  return UINT32_MAX;
}

uint32_t MagnitudeBits(float value) { return FloatBits(value) & 0x7fffffffu; }

// The same judgement as the encoder's: NaN is not clipped.
bool IsClipped(float value, float scale, uint32_t largest_code_bits) {
  const uint32_t stored = MagnitudeBits(value / scale);
  return stored > largest_code_bits && stored <= 0x7f800000u;
}

}  // namespace

void GatherKvStats(const RopeKvStoreParams& params, ThreadPool& pool) {
  const KvStats& stats = params.kv.stats;
  const KvLayout& layout = params.kv.layout;
  const uint32_t num_kv_heads = layout.num_kv_heads;
  const uint32_t head_dim = layout.head_dim;
  const size_t row = (size_t{params.num_heads} + 2 * size_t{num_kv_heads}) * head_dim;
  const uint32_t largest_code = LargestCodeBits(layout.dtype);
  // `index` numbers K's heads, then V's: the order of a row of qkv behind Q, and of the statistics.
  pool.ParallelFor(2 * num_kv_heads, [&](uint32_t index, uint32_t) {
    const bool is_k = index < num_kv_heads;
    const float scale = is_k ? params.kv.k_scale[index] : params.kv.v_scale[index - num_kv_heads];
    const float* at =
        static_cast<const float*>(params.qkv) + (size_t{params.num_heads} + index) * head_dim;
    uint32_t* counts =
        stats.counts == nullptr ? nullptr : stats.counts + size_t{index} * kKvStatsBins;
    uint32_t largest = stats.largest_bits[index];
    uint32_t clipped = 0;
    for (uint32_t token = 0; token < params.num_tokens; ++token, at += row) {
      for (uint32_t i = 0; i < head_dim; ++i) {
        const uint32_t bits = MagnitudeBits(at[i]);
        largest = std::max(largest, bits);
        if (counts != nullptr) ++counts[bits >> 16];
        clipped += IsClipped(at[i], scale, largest_code) ? 1 : 0;
      }
    }
    stats.largest_bits[index] = largest;
    stats.num_saturated[index] += clipped;
  });
}

}  // namespace kvs::cpu
