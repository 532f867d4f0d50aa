// Which decode kernels exist: `ls instances` and this table say the same.
#pragma once

#include "gpu/paged_decode.h"

namespace kvs::gpu {

template <KvCacheDType dtype, uint32_t kHeadDim, uint32_t kHeadTiles>
void RunPagedDecode(const PagedAttentionParams& params, const DecodePlan& plan,
                    const Launch& launch);

struct DecodeInstance {
  KvCacheDType dtype;
  uint32_t head_dim;
  bool two_head_tiles;  // 9 to 16 query heads share a KV head
  void (*run)(const PagedAttentionParams&, const DecodePlan&, const Launch&);
};

#define KVS_DECODE_INSTANCES(dtype)                         \
  {dtype, 64, false, RunPagedDecode<dtype, 64, 1>},         \
      {dtype, 64, true, RunPagedDecode<dtype, 64, 2>},      \
      {dtype, 128, false, RunPagedDecode<dtype, 128, 1>},   \
      {dtype, 128, true, RunPagedDecode<dtype, 128, 2>},    \
      {dtype, 256, false, RunPagedDecode<dtype, 256, 1>}, { \
    dtype, 256, true, RunPagedDecode<dtype, 256, 2>         \
  }
inline constexpr DecodeInstance kDecodeInstances[] = {
    KVS_DECODE_INSTANCES(KvCacheDType::kBf16), KVS_DECODE_INSTANCES(KvCacheDType::kF16),
    KVS_DECODE_INSTANCES(KvCacheDType::kF8E4M3), KVS_DECODE_INSTANCES(KvCacheDType::kF8E5M2)};
#undef KVS_DECODE_INSTANCES

}  // namespace kvs::gpu
