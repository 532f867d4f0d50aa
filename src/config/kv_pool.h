// How many blocks a KV pool has: the one place that turns bytes or tokens into blocks.
#pragma once

#include <cstdint>

#include "kvserve/kv_layout.h"
#include "kvserve/model_config.h"

namespace kvs {

// Slot ids are 32 bits: block * block_size + offset.
inline constexpr uint64_t kPoolTokensMax = UINT32_MAX - 64;

KvLayout LayoutOf(const ModelConfig& config, uint32_t block_size, KvCacheDType dtype);

// Whole blocks in `bytes`, counted in blocks of a 16-bit dtype and then doubled for FP8 or halved
// for float32: the same bytes hold exactly twice the tokens in FP8, whatever their number. The null
// block is not counted; it comes on top.
uint64_t BlocksInBytes(const KvLayout& layout, uint64_t bytes);

// What the machine can still give, in bytes: /proc/meminfo's MemAvailable, or the control group's
// limit when that is lower. UINT64_MAX when the system does not say.
uint64_t AvailableMemoryBytes();

}  // namespace kvs
