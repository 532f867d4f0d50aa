#include "quality/batch.h"

namespace kvs {

void Batch::Clear() {
  last_block_ = 0;
  tables_.clear();
  plan_.slices.clear();
  plan_.num_tokens = 0;
  plan_.num_logits_rows = 0;
}

void Batch::Add(std::span<const TokenId> tokens, size_t begin, size_t end,
                uint32_t num_logits_rows) {
  std::vector<BlockId>& table = tables_.emplace_back();
  for (size_t covered = 0; covered < end; covered += block_size_) table.push_back({++last_block_});
  const std::span<const TokenId> fresh = tokens.subspan(begin, end - begin);
  ScheduledSlice slice;  // its table is set by plan(), when tables_ moves no more
  slice.token_ids = fresh;
  slice.first_position = static_cast<uint32_t>(begin);
  slice.num_logits_rows = num_logits_rows;
  plan_.slices.push_back(slice);
  plan_.num_tokens += static_cast<uint32_t>(fresh.size());
  plan_.num_logits_rows += num_logits_rows;
}

const StepPlan& Batch::plan() {
  for (size_t i = 0; i < tables_.size(); ++i) plan_.slices[i].block_table = tables_[i];
  return plan_;
}

}  // namespace kvs
