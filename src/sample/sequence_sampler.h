// SequenceSampler: what sampling keeps of one generation between steps: how often each token
// occurred (only when a penalty needs it), the tokens that may not come yet, gathered prompt
// logprobs. All memory is taken at construction, except for the logprobs that a client asked for.
//
// Made on any thread, then used by the engine thread alone.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "kvserve/ids.h"
#include "kvserve/kernel_params.h"
#include "kvserve/request.h"
#include "kvserve/token_event.h"

namespace kvs {

class SequenceSampler {
 public:
  // `request` must outlive it; its prompt is read here only. Ids at or beyond `vocab_size` cannot
  // be sampled and are left out of the banned ones.
  SequenceSampler(const Request& request, std::span<const TokenId> eos_token_ids,
                  uint32_t vocab_size);

  const SamplingParams& params() const { return params_; }
  uint32_t num_prompt_tokens() const { return num_prompt_tokens_; }
  bool wants_prompt_logprobs() const { return prompt_logprobs_ != nullptr; }
  // Prompt positions whose logprobs are still missing start at this row (row p tells of p + 1).
  uint32_t next_prompt_row() const;

  // The row that draws output number `output_position` (0 = the first). Its pointers stay valid
  // until the next CountOutput.
  SampleRow DrawRow(uint32_t logits_row, uint32_t output_position) const;
  // The row that tells the logprob of the prompt token `given`.
  SampleRow PromptRow(uint32_t logits_row, TokenId given) const;

  // Counts one sampled token, in order.
  void CountOutput(TokenId token);

  void AddPromptLogprobs(const SampleResult& result);
  // A prompt position's logits were not finite: what comes of this request is worth nothing.
  bool failed() const { return failed_; }
  // [num_prompt_tokens - 1] for positions 1..; null when none were asked for or when taken before.
  std::unique_ptr<std::vector<PositionLogprobs>> TakePromptLogprobs();
  // Null unless logprobs of sampled tokens were asked for.
  std::unique_ptr<PositionLogprobs> OutputLogprobs(const SampleResult& result) const;

 private:
  void CountPrompt(std::span<const TokenId> prompt);
  PositionLogprobs ToLogprobs(const SampleResult& result, uint32_t num_top) const;

  const SamplingParams& params_;
  const uint32_t num_prompt_tokens_;
  const uint32_t vocab_size_;
  const bool counts_tokens_;
  std::vector<TokenCount> counts_;  // ascending by token
  std::vector<TokenBias> biases_;
  std::vector<TokenId> banned_;  // while fewer than min_tokens outputs exist
  std::unique_ptr<std::vector<PositionLogprobs>> prompt_logprobs_;
  bool failed_ = false;
};

}  // namespace kvs
