// The statistics of new keys and values that calibration and evaluation ask for.
#pragma once

#include "cpu/thread_pool.h"
#include "kvserve/kernel_params.h"

namespace kvs::cpu {

// Adds the tokens of this call to params.kv.stats. REQUIRES: K in params.qkv is rotated. A thread
// takes whole heads, so that no counter is shared.
void GatherKvStats(const RopeKvStoreParams& params, ThreadPool& pool);

}  // namespace kvs::cpu
