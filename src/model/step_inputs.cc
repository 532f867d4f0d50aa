#include "model/step_inputs.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "kvserve/check.h"

namespace kvs {
namespace {

constexpr size_t kAlignWords = 16;  // 64 bytes
constexpr size_t kNumArrays = 8;

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
  is_decode_ = num_tokens_ == num_seqs_ && num_logits_rows_ == num_seqs_;
  const uint32_t padded = is_decode_ ? backend.PaddedBatch(num_seqs_) : num_seqs_;
  is_decode_ = is_decode_ && padded <= limits_.max_num_batched_tokens;
  if (!is_decode_) return;
  KVS_CHECK_OP(padded, >=, num_seqs_);
  KVS_CHECK_OP(padded, <=, limits_.max_num_seqs);
  num_seqs_ = num_tokens_ = num_logits_rows_ = padded;
  // Few row lengths, so that few keys exist.
  max_blocks_per_seq_ = std::min(std::bit_ceil(max_blocks_per_seq_), limits_.MaxBlocksPerSeq());
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
    logits_rows[row] = row;
  }
}

void StepInputs::FillSequences(const StepPlan& plan) {
  const auto query_start_loc = Place(num_seqs_ + size_t{1}, &query_start_loc_);
  const auto seq_lens = Place(num_seqs_, &seq_lens_);
  const auto tables = Place(size_t{num_seqs_} * max_blocks_per_seq_, &block_tables_);
  query_start_loc[0] = 0;
  for (uint32_t seq = 0; seq < num_seqs_; ++seq) {
    const auto table = tables.subspan(size_t{seq} * max_blocks_per_seq_, max_blocks_per_seq_);
    std::fill(table.begin(), table.end(), kNullBlock.value);
    if (seq >= plan.slices.size()) {  // padding: one token, which sees itself in the null block
      query_start_loc[seq + 1] = query_start_loc[seq] + 1;
      seq_lens[seq] = 1;
      continue;
    }
    const ScheduledSlice& slice = plan.slices[seq];
    query_start_loc[seq + 1] = query_start_loc[seq] + static_cast<uint32_t>(slice.token_ids.size());
    seq_lens[seq] = SeqLen(slice);
    const uint32_t num_blocks = BlocksFor(SeqLen(slice), limits_.block_size);
    for (uint32_t i = 0; i < num_blocks; ++i) table[i] = slice.block_table[i].value;
  }
}

}  // namespace kvs
