// Finish rules: when a generation ends. Text-level stop strings are decided elsewhere.
#pragma once

#include <cstdint>
#include <span>

#include "kvserve/request.h"
#include "schedule/sequence.h"

namespace kvs {

struct FinishDecision {
  FinishReason reason = FinishReason::kNone;
  bool token_is_stop = false;
};

// Judges `sequence`, whose last token was just appended. A stop token (eos unless ignore_eos, or
// one of stop_token_ids) ends it after the first min_tokens output tokens, and before the limits
// are asked: a stop token at max_tokens is kStop.
FinishDecision DecideFinish(const Sequence& sequence, std::span<const TokenId> eos_token_ids,
                            uint32_t max_model_len);

}  // namespace kvs
