// Sequence: the mutable state of one generation. Owned by the Scheduler from Add to its retirement;
// engine thread only.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "blocks/block_hash.h"
#include "kvserve/ids.h"
#include "kvserve/request.h"

namespace kvs {

// What the scheduler notes about a sequence for itself.
struct SequenceState {
  bool is_running = false;
  bool was_admitted = false;       // its prefix lookup is in the statistics
  bool is_held_back = false;       // waits for a block that a running sequence computes
  uint32_t awaited_block_idx = 0;  // while held back
  uint32_t end_in_flight = 0;      // blocks before it that are not yet computed are marked
  uint32_t num_released = 0;       // leading blocks that no later query sees: the null block
  uint32_t num_rows_given = 0;     // prompt positions whose logits rows an advanced step had
  uint32_t num_open_steps = 0;     // planned and not committed steps that have a slice of it
  bool has_pending_token = false;  // the last of token_ids is kNoToken until its step is committed
  HashChain chain;                 // of token_ids; empty without prefix caching
};

struct Sequence {
  Request request;                 // constant after Add, except that its prompt moves to token_ids
  std::vector<TokenId> token_ids;  // prompt, then output; reserved to its largest size at Add
  uint32_t num_prompt_tokens = 0;
  uint32_t num_computed_tokens = 0;  // leading tokens whose K/V are in blocks
  uint32_t num_cached_tokens = 0;    // of the first admission; what the client is told
  uint32_t num_preemptions = 0;
  // Append-only while running, but that blocks which no later query sees become the null block.
  std::vector<BlockId> block_table;
  FinishReason finish = FinishReason::kNone;  // set once, when it retires
  void* engine_state = nullptr;               // opaque to the scheduler; set by the engine
  uint32_t sampled_row = kNoSampledRow;       // of its last draw; set by the engine, told by plans
  SequenceState scheduler_state;

  uint32_t num_tokens() const { return static_cast<uint32_t>(token_ids.size()); }
  uint32_t num_output_tokens() const { return num_tokens() - num_prompt_tokens; }
};

}  // namespace kvs
