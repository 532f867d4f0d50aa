// Sequence: the mutable state of one generation. Owned by the Scheduler from Add to its retirement;
// engine thread only.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "kvserve/ids.h"
#include "kvserve/request.h"

namespace kvs {

struct Sequence {
  Request request;                 // constant after Add
  std::vector<TokenId> token_ids;  // prompt, then output; reserved to its largest size at Add
  uint32_t num_prompt_tokens = 0;
  uint32_t num_computed_tokens = 0;  // leading tokens whose K/V are in blocks
  uint32_t num_cached_tokens = 0;    // of the first admission; what the client is told
  uint32_t num_preemptions = 0;
  std::vector<BlockId> block_table;  // append-only while running
  void* engine_state = nullptr;      // opaque to the scheduler; set by the engine

  uint32_t num_tokens() const { return static_cast<uint32_t>(token_ids.size()); }
  uint32_t num_output_tokens() const { return num_tokens() - num_prompt_tokens; }
};

}  // namespace kvs
