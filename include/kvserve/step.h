// What the scheduler asks of the model in one step. Spans view into the scheduler's sequences and
// may be read until Forward returns.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kvserve/ids.h"

namespace kvs {

// `token_ids` are computed at positions [first_position, first_position + token_ids.size()), and
// attend to every earlier position of the same sequence through `block_table`.
struct ScheduledSlice {
  std::span<const TokenId> token_ids;  // new tokens; never empty
  uint32_t first_position = 0;         // = num_computed_tokens
  // Covers all positions up to the last new one; the null block where no new token sees any.
  std::span<const BlockId> block_table;
  // Rows of logits wanted: the last n of the new tokens. 0 for a chunk that does not reach the end
  // of the known tokens; 1 when a token is to be sampled; all for prompt logprobs.
  uint32_t num_logits_rows = 0;
  // When set, the last of token_ids is kNoToken: the step before is still running, and the device
  // takes the token that this row of its sampling draws.
  uint32_t sampled_row = kNoSampledRow;
};

struct StepPlan {
  std::vector<ScheduledSlice> slices;
  uint32_t num_tokens = 0;       // sum of token_ids.size()
  uint32_t num_logits_rows = 0;  // sum of num_logits_rows
};

// Upper bounds of any step of this process; every buffer is sized from them before listen().
struct StepLimits {
  uint32_t max_num_seqs = 0;            // slices per step
  uint32_t max_num_batched_tokens = 0;  // tokens per step
  uint32_t max_model_len = 0;           // positions per sequence
  uint32_t max_num_logits_rows = 0;     // logits rows per step; >= max_num_seqs
  uint32_t block_size = 0;

  constexpr uint32_t MaxBlocksPerSeq() const {
    return (max_model_len + block_size - 1) / block_size;
  }
};

}  // namespace kvs
