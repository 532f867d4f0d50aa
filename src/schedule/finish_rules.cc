#include "schedule/finish_rules.h"

#include <algorithm>

namespace kvs {
namespace {

bool Contains(std::span<const TokenId> tokens, TokenId token) {
  return std::find(tokens.begin(), tokens.end(), token) != tokens.end();
}

}  // namespace

FinishDecision DecideFinish(const Sequence& sequence, std::span<const TokenId> eos_token_ids,
                            uint32_t max_model_len) {
  const SamplingParams& sampling = sequence.request.sampling;
  const TokenId token = sequence.token_ids.back();
  const bool is_stop = (!sampling.ignore_eos && Contains(eos_token_ids, token)) ||
                       Contains(sampling.stop_token_ids, token);
  if (is_stop && sequence.num_output_tokens() > sampling.min_tokens) {
    return {FinishReason::kStop, true};
  }
  if (sequence.num_output_tokens() >= sampling.max_tokens ||
      sequence.num_tokens() >= max_model_len) {
    return {FinishReason::kLength, false};
  }
  return {};
}

}  // namespace kvs
