// What the engine tells a client's reader: one event per sampled token, and exactly one last event
// with a finish reason.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kvserve/ids.h"
#include "kvserve/request.h"

namespace kvs {

struct TokenLogprob {
  TokenId token{};
  float logprob = 0.0f;
};

// One position's log-probabilities: the token that stands there and the most likely ones.
struct PositionLogprobs {
  TokenLogprob chosen;
  uint32_t chosen_rank = 0;       // 1 = most likely
  std::vector<TokenLogprob> top;  // descending
};

struct TokenEvent {
  bool has_token = false;  // false for a last event that carries no token (cancelled, error)
  TokenId token{};
  std::unique_ptr<PositionLogprobs> logprobs;  // null unless asked for
  FinishReason finish = FinishReason::kNone;
  // For kStop: the stop token that ended it, when it was one of stop_token_ids or eos. Such a token
  // is carried as `token` and is not part of the text.
  bool token_is_stop = false;
  // On the first event of a request only.
  uint32_t num_cached_tokens = 0;  // prompt tokens served from the prefix cache
  std::unique_ptr<std::vector<PositionLogprobs>> prompt_logprobs;  // [prompt - 1], positions 1..
  std::string error;                                               // for kError: one sentence
};

}  // namespace kvs
