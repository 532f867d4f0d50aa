// Sampler: one step's rows of logits, from the planned sequences to one token per slice. It fills
// the arrays that Backend::Sample takes and reads its results; the arithmetic is the kernel's.
//
// Not thread-safe: owned by the engine thread. Arrays are taken once, for the largest step.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "kvserve/kernel_params.h"
#include "kvserve/step.h"
#include "sample/sequence_sampler.h"

namespace kvs {

class Sampler {
 public:
  explicit Sampler(const StepLimits& limits);

  // Starts a step: forgets the rows of the last one.
  void Clear();

  // Adds the rows of the next slice, in slice order. `token_ids` are all tokens of the sequence.
  // Prompt positions asked for get a row each, once; the last known token gets the row that draws,
  // unless nothing is to be generated (max_tokens 0).
  void AddSlice(SequenceSampler& sequence, std::span<const TokenId> token_ids,
                const ScheduledSlice& slice);

  // Passes over the next slice: its sequence has ended since it was planned.
  void SkipSlice(const ScheduledSlice& slice);
  // Forgets the sequence of a slice: it has ended since its rows were added.
  void Drop(size_t slice);

  // For Backend::Sample.
  std::span<const SampleRow> rows() const { return rows_; }
  std::span<SampleResult> results() { return {results_.data(), rows_.size()}; }

  // Reads the results: hands out prompt logprobs and returns one token per slice: kNoToken
  // when the draw or any prompt row of the sequence was not finite; token 0, to be ignored, where
  // nothing was drawn or the slice was skipped or dropped.
  std::span<const TokenId> Collect();
  // The result of the draw of `slice`; null when it drew nothing. Valid until Clear.
  const SampleResult* DrawResult(size_t slice) const;
  // The row of that draw; kNoSampledRow when the slice draws nothing.
  uint32_t DrawRow(size_t slice) const;

 private:
  struct SliceRows {
    SequenceSampler* sequence;  // null: skipped or dropped
    uint32_t first_row;
    uint32_t num_prompt_rows;
    bool draws;  // in the row after the prompt rows
  };

  std::vector<SampleRow> rows_;
  std::vector<SampleResult> results_;
  std::vector<SliceRows> slices_;
  std::vector<TokenId> sampled_;
  uint32_t num_logits_rows_ = 0;  // of the slices added so far
};

}  // namespace kvs
