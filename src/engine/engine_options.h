// What the engine is built from: limits, and the facts of the KV cache that metrics report.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "kvserve/kv_layout.h"
#include "kvserve/model_config.h"
#include "schedule/scheduler.h"

namespace kvs {

// What a KV cache stores, as far as the engine has to know.
struct KvCacheFacts {
  KvLayout layout;
  uint32_t num_blocks;  // usable
  uint64_t identity;    // KvCache::Identity
  std::string scale_source;
};

struct EngineOptions {
  SchedulerConfig scheduler;
  uint32_t vocab_size = 0;
  GenerationDefaults generation;                // what requests get that do not say otherwise
  KvLayout kv_layout{};                         // for metrics only: dtype and bytes
  std::string kv_scale_source = "default_1.0";  // for metrics only: where the scales came from
  // Requests that may wait once no more can run; with free seats, up to max_num_seqs more are
  // taken, since they will not wait.
  uint32_t max_num_queued_reqs = 1024;
  // Events a reader may fall behind before its request is cancelled.
  size_t channel_capacity = 4096;
  // Once so many requests ended, the engine calls switch_kv_cache between two steps: it makes the
  // cache another one, with no fewer blocks, and what is stored in it is lost. When it returns
  // nothing all is as before, and so many further requests are awaited. 0: never.
  uint32_t num_requests_before_switch = 0;
  std::function<std::optional<KvCacheFacts>()> switch_kv_cache;
};

}  // namespace kvs
