// EngineHandle: all that HTTP may see of the engine. Every method is thread-safe and returns
// without waiting for a step, unless it says so.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kvserve/model_config.h"
#include "kvserve/request.h"
#include "kvserve/status.h"
#include "stream/token_channel.h"

namespace kvs {

// Constants of the process, for validation and /v1/models.
struct EngineInfo {
  uint32_t max_model_len = 0;
  uint32_t vocab_size = 0;
  uint64_t kv_pool_tokens = 0;  // most tokens one request could ever hold
  bool enable_prefix_caching = false;
  uint32_t block_size = 0;
  GenerationDefaults generation;
};

struct ResetResult {
  bool success = false;
  uint32_t num_blocks_in_use = 0;  // held by running requests; > 0 exactly when !success
};

class EngineHandle {
 public:
  virtual ~EngineHandle() = default;

  virtual const EngineInfo& info() const = 0;

  // Takes all requests of one call or none. On success one channel per request, in order, sharing
  // `signal`. kUnavailable when the queue is full or the engine is stopping: nothing was taken.
  virtual Result<std::vector<std::shared_ptr<TokenChannel>>> Submit(
      std::vector<Request> requests, std::shared_ptr<ChannelSignal> signal) = 0;

  // Forgets every cached block. Waits for the current step. kUnavailable when stopping.
  virtual Result<ResetResult> ResetPrefixCache() = 0;

  // Seconds since the engine thread last finished a step or an idle round: liveness.
  virtual double SecondsSinceHeartbeat() const = 0;
  virtual bool accepting() const = 0;  // false once stopping began: /readyz answers 503
};

}  // namespace kvs
