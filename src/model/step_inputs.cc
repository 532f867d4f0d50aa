#include "model/step_inputs.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "kvserve/check.h"

namespace kvs {
namespace {

constexpr size_t kAlignWords = 16;  // 64 bytes
constexpr size_t kNumArrays = 8;
constexpr uint32_t kSmallTablesWords = 16384;  // 64 KiB, whatever the contexts' lengths

constexpr size_t AlignUp(size_t words) {
  return (words + kAlignWords - 1) / kAlignWords * kAlignWords;
}

// Blocks that hold positions [0, num_positions).
constexpr uint32_t BlocksFor(uint32_t num_positions, uint32_t block_size) {
  return (num_positions + block_size - 1) / block_size;
}

uint32_t SeqLen(const ScheduledSlice& slice) {
  return slice.first_position + static_cast<uint32_t>(slice.token_ids.size());
}

}  // namespace

Result<StepInputs> StepInputs::Make(const StepLimits& limits, const IdLimits& ids,
                                    Backend& backend) {
  const size_t words = size_t{4} * limits.max_num_batched_tokens + size_t{2} * limits.max_num_seqs +
                       1 + limits.max_num_logits_rows +
                       size_t{limits.max_num_seqs} * limits.MaxBlocksPerSeq() +
                       kNumArrays * kAlignWords;
  StepInputs inputs(limits, ids);
  inputs.host_.resize(words);
  auto device = backend.Allocate(words * sizeof(uint32_t), "step inputs");
  if (!device) return tl::unexpected(device.error());
  inputs.device_ = std::move(*device);
  return inputs;
}

void StepInputs::Fill(const StepPlan& plan, Backend& backend) {
  keeps_sampled_ = backend.sampled_tokens() != nullptr;
  CheckPlan(plan);
  ChooseShape(plan, backend);
  words_used_ = 0;
  FillTokens(plan);
  FillSequences(plan);
  backend.CopyToDevice(device_.data(), host_.data(), words_used_ * sizeof(uint32_t));
}

void StepInputs::ChooseShape(const StepPlan& plan, const Backend& backend) {
  num_seqs_ = static_cast<uint32_t>(plan.slices.size());
  num_tokens_ = plan.num_tokens;
  num_logits_rows_ = plan.num_logits_rows;
  max_blocks_per_seq_ = 0;
  for (const ScheduledSlice& slice : plan.slices) {
    max_blocks_per_seq_ =
        std::max(max_blocks_per_seq_, BlocksFor(SeqLen(slice), limits_.block_size));
  }
  has_single_tokens_ = num_tokens_ <= limits_.max_num_seqs;
  may_fuse_rope_ = backend.FusesRope();
  for (const ScheduledSlice& slice : plan.slices) {
    has_single_tokens_ = has_single_tokens_ && slice.token_ids.size() <= backend.FewTokens();
    may_fuse_rope_ = may_fuse_rope_ && slice.token_ids.size() == 1;
  }
  if (!has_single_tokens_) return;
  const uint32_t padded = backend.PaddedBatch(num_tokens_);
  KVS_CHECK_OP(padded, >=, num_tokens_);
  KVS_CHECK_OP(padded, <=, limits_.max_num_seqs);
  has_single_tokens_ = padded <= limits_.max_num_batched_tokens;
  if (!has_single_tokens_) return;
  num_seqs_ = num_tokens_ = padded;
  if (num_logits_rows_ > 0) num_logits_rows_ = padded;
  // Few row lengths, so that few keys exist: of few rows one, so that their launches are recorded
  // long before a context has grown or a prefix is found again.
  const uint32_t of_small_tables = std::bit_floor(kSmallTablesWords / padded);
  max_blocks_per_seq_ = std::min(std::max(std::bit_ceil(max_blocks_per_seq_), of_small_tables),
                                 limits_.MaxBlocksPerSeq());
}

void StepInputs::CheckPlan(const StepPlan& plan) const {
  KVS_CHECK_OP(plan.slices.size(), >=, 1u);
  KVS_CHECK_OP(plan.slices.size(), <=, limits_.max_num_seqs);
  KVS_CHECK_OP(plan.num_tokens, <=, limits_.max_num_batched_tokens);
  KVS_CHECK_OP(plan.num_logits_rows, <=, limits_.max_num_logits_rows);
  size_t num_tokens = 0;
  size_t num_logits_rows = 0;
  for (const ScheduledSlice& slice : plan.slices) {
    CheckSlice(slice);
    num_tokens += slice.token_ids.size();
    num_logits_rows += slice.num_logits_rows;
  }
  KVS_CHECK_OP(num_tokens, ==, plan.num_tokens);
  KVS_CHECK_OP(num_logits_rows, ==, plan.num_logits_rows);
}

uint32_t StepInputs::NumBlocksBefore(uint32_t position) const {
  if (ids_.window == 0 || position < ids_.window) return 0;
  return (position - ids_.window + 1) / limits_.block_size;
}

void StepInputs::CheckSlice(const ScheduledSlice& slice) const {
  KVS_CHECK(!slice.token_ids.empty());
  KVS_CHECK_OP(slice.num_logits_rows, <=, slice.token_ids.size());
  const uint64_t seq_len = uint64_t{slice.first_position} + slice.token_ids.size();
  KVS_CHECK_OP(seq_len, <=, limits_.max_model_len);
  const uint32_t num_blocks = BlocksFor(SeqLen(slice), limits_.block_size);
  KVS_CHECK_OP(slice.block_table.size(), >=, num_blocks);
  const uint32_t num_unseen = NumBlocksBefore(slice.first_position);
  for (uint32_t i = 0; i < num_blocks; ++i) {
    const BlockId block = slice.block_table[i];
    KVS_CHECK(block != kNullBlock || i < num_unseen);
    KVS_CHECK_OP(block.value, <=, ids_.num_blocks);
  }
  auto known = slice.token_ids;
  if (slice.sampled_row != kNoSampledRow) {
    KVS_CHECK(keeps_sampled_);
    KVS_CHECK_OP(slice.sampled_row, <, limits_.max_num_logits_rows);
    known = known.first(known.size() - 1);
  }
  for (const TokenId token : known) KVS_CHECK_OP(token.value, <, ids_.vocab_size);
}

std::span<uint32_t> StepInputs::Place(size_t count, size_t* offset) {
  *offset = AlignUp(words_used_);
  words_used_ = *offset + count;
  KVS_CHECK_OP(words_used_, <=, host_.size());
  return {host_.data() + *offset, count};
}

void StepInputs::FillTokens(const StepPlan& plan) {
  const auto token_ids = Place(num_tokens_, &token_ids_);
  const auto sampled_rows = Place(keeps_sampled_ ? num_tokens_ : 0, &sampled_rows_);
  std::fill(sampled_rows.begin(), sampled_rows.end(), kNoSampledRow);
  const auto positions = Place(num_tokens_, &positions_);
  const auto slots = Place(num_tokens_, &slot_mapping_);
  const auto logits_rows = Place(num_logits_rows_, &logits_rows_);
  uint32_t row = 0;
  uint32_t logits_row = 0;
  for (const ScheduledSlice& slice : plan.slices) {
    uint32_t position = slice.first_position;
    for (const TokenId token : slice.token_ids) {
      const BlockId block = slice.block_table[position / limits_.block_size];
      token_ids[row] = token.value;
      positions[row] = position;
      slots[row] = SlotOf(block, position % limits_.block_size, limits_.block_size).value;
      ++position;
      ++row;
    }
    if (slice.sampled_row != kNoSampledRow) sampled_rows[row - 1] = slice.sampled_row;
    for (uint32_t i = slice.num_logits_rows; i > 0; --i) logits_rows[logits_row++] = row - i;
  }
  for (; row < num_tokens_; ++row) {  // padding
    token_ids[row] = 0;
    positions[row] = 0;
    slots[row] = SlotOf(kNullBlock, 0, limits_.block_size).value;
  }
  while (logits_row < num_logits_rows_) logits_rows[logits_row++] = 0;
}

void StepInputs::FillTable(std::span<const BlockId> blocks, uint32_t num_positions,
                           std::span<uint32_t> table) const {
  const uint32_t num_blocks = BlocksFor(num_positions, limits_.block_size);
  for (uint32_t i = 0; i < num_blocks; ++i) table[i] = blocks[i].value;
  std::fill(table.begin() + num_blocks, table.end(), kNullBlock.value);
}

void StepInputs::FillSequences(const StepPlan& plan) {
  const auto query_start_loc = Place(num_seqs_ + size_t{1}, &query_start_loc_);
  const auto seq_lens = Place(num_seqs_, &seq_lens_);
  const auto tables = Place(size_t{num_seqs_} * max_blocks_per_seq_, &block_tables_);
  query_start_loc[0] = 0;
  uint32_t seq = 0;
  const auto add = [&](std::span<const BlockId> blocks, uint32_t num_new, uint32_t seq_len) {
    query_start_loc[seq + 1] = query_start_loc[seq] + num_new;
    seq_lens[seq] = seq_len;
    FillTable(blocks, blocks.empty() ? 0 : seq_len,
              tables.subspan(size_t{seq} * max_blocks_per_seq_, max_blocks_per_seq_));
    ++seq;
  };
  for (const ScheduledSlice& slice : plan.slices) {
    const auto num_new = static_cast<uint32_t>(slice.token_ids.size());
    if (!has_single_tokens_) {
      add(slice.block_table, num_new, SeqLen(slice));
      continue;
    }
    for (uint32_t i = 1; i <= num_new; ++i) add(slice.block_table, 1, slice.first_position + i);
  }
  while (seq < num_seqs_) add({}, 1, 1);  // padding
}

}  // namespace kvs
