// What the engine is built from: limits, and the facts of the KV cache that metrics report.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "kvserve/kv_layout.h"
#include "kvserve/model_config.h"
#include "schedule/scheduler.h"

namespace kvs {

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
};

}  // namespace kvs
