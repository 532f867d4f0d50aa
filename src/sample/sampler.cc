#include "sample/sampler.h"

#include <algorithm>

#include "kvserve/check.h"

namespace kvs {

Sampler::Sampler(const StepLimits& limits) {
  rows_.reserve(limits.max_num_logits_rows);
  results_.resize(limits.max_num_logits_rows);
  slices_.reserve(limits.max_num_seqs);
  sampled_.reserve(limits.max_num_seqs);
}

void Sampler::Clear() {
  rows_.clear();
  slices_.clear();
  sampled_.clear();
  num_logits_rows_ = 0;
}

void Sampler::AddSlice(SequenceSampler& sequence, std::span<const TokenId> token_ids,
                       const ScheduledSlice& slice) {
  const uint32_t num_prompt = sequence.num_prompt_tokens();
  const uint32_t end = slice.first_position + static_cast<uint32_t>(slice.token_ids.size());
  const uint32_t begin = end - slice.num_logits_rows;  // position of the slice's first logits row
  KVS_CHECK_OP(slice.num_logits_rows, <=, slice.token_ids.size());
  KVS_CHECK_OP(end, <=, token_ids.size());
  KVS_CHECK_OP(num_logits_rows_ + slice.num_logits_rows, <=, results_.size());
  SliceRows added{&sequence, static_cast<uint32_t>(rows_.size()), 0, false};

  if (sequence.wants_prompt_logprobs() && slice.num_logits_rows > 0) {
    const uint32_t first = sequence.next_prompt_row();
    KVS_CHECK(first + 1 >= num_prompt || end <= first || begin <= first);  // none left out
    for (uint32_t p = std::max(begin, first); p < std::min(end, num_prompt - 1); ++p) {
      rows_.push_back(sequence.PromptRow(num_logits_rows_ + (p - begin), token_ids[p + 1]));
      ++added.num_prompt_rows;
    }
  }
  const bool reaches_end = end == token_ids.size() && slice.num_logits_rows > 0;
  if (reaches_end && sequence.params().max_tokens > 0) {
    rows_.push_back(
        sequence.DrawRow(num_logits_rows_ + slice.num_logits_rows - 1, end - num_prompt));
    added.draws = true;
  }
  slices_.push_back(added);
  num_logits_rows_ += slice.num_logits_rows;
}

void Sampler::SkipSlice(const ScheduledSlice& slice) {
  slices_.push_back({nullptr, static_cast<uint32_t>(rows_.size()), 0, false});
  num_logits_rows_ += slice.num_logits_rows;
}

void Sampler::Drop(size_t slice) { slices_[slice].sequence = nullptr; }

std::span<const TokenId> Sampler::Collect() {
  sampled_.clear();
  for (const SliceRows& slice : slices_) {
    if (slice.sequence == nullptr) {
      sampled_.push_back(TokenId{0});
      continue;
    }
    const uint32_t end = slice.first_row + slice.num_prompt_rows;
    for (uint32_t row = slice.first_row; row < end; ++row) {
      slice.sequence->AddPromptLogprobs(results_[row]);
    }
    TokenId token{0};
    if (slice.draws) token = slice.sequence->failed() ? kNoToken : results_[end].token;
    sampled_.push_back(token);
  }
  return sampled_;
}

const SampleResult* Sampler::DrawResult(size_t slice) const {
  const uint32_t row = DrawRow(slice);
  return row == kNoSampledRow ? nullptr : &results_[row];
}

uint32_t Sampler::DrawRow(size_t slice) const {
  const SliceRows& rows = slices_[slice];
  return rows.draws ? rows.first_row + rows.num_prompt_rows : kNoSampledRow;
}

}  // namespace kvs
