// Whole token lists as steps of a model, without an engine: each list has blocks of its own, from
// block 1 on.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kvserve/step.h"

namespace kvs {

using Tokens = std::vector<TokenId>;

class Batch {
 public:
  explicit Batch(uint32_t block_size) : block_size_(block_size) {}

  void Clear();
  // Tokens [begin, end) of a list whose first `begin` tokens an earlier batch computed when the
  // list was the only one. `num_logits_rows` of the last of them. `tokens` must outlive the plan.
  void Add(std::span<const TokenId> tokens, size_t begin, size_t end, uint32_t num_logits_rows);
  void Add(std::span<const TokenId> tokens) { Add(tokens, 0, tokens.size(), 0); }

  uint32_t num_tokens() const { return plan_.num_tokens; }
  size_t num_sequences() const { return plan_.slices.size(); }
  // Valid until the next Add or Clear.
  const StepPlan& plan();

 private:
  const uint32_t block_size_;
  uint32_t last_block_ = 0;
  std::vector<std::vector<BlockId>> tables_;
  StepPlan plan_;
};

}  // namespace kvs
