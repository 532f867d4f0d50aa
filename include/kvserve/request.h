// A request that is already valid: every bound was checked at the HTTP door, every text is tokens.
// One Request asks for one generation; a call with several prompts or n > 1 makes several.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "kvserve/ids.h"

namespace kvs {

using SteadyTime = std::chrono::steady_clock::time_point;

// Ranges are enforced by http/openai_parse. Defaults are OpenAI's (and vLLM's for its additions).
struct SamplingParams {
  float temperature = 1.0f;         // 0 = greedy; [0, 2]
  int32_t top_k = 0;                // 0 = off; else >= 1
  float top_p = 1.0f;               // (0, 1]
  float min_p = 0.0f;               // [0, 1]
  float presence_penalty = 0.0f;    // [-2, 2]; over output tokens
  float frequency_penalty = 0.0f;   // [-2, 2]; over output tokens
  float repetition_penalty = 1.0f;  // (0, 10]; over prompt and output tokens
  uint64_t seed = 0;                // always set: the client's, or drawn at the door
  std::vector<std::pair<TokenId, float>> logit_bias;  // ids < vocab_size; at most 1024
  std::vector<TokenId> stop_token_ids;                // besides the model's eos ids
  bool ignore_eos = false;
  uint32_t min_tokens = 0;
  uint32_t max_tokens = 16;  // >= 1, except 0 with prompt_logprobs (echo without generation)
  // Logprobs of sampled tokens: absent = none; k = the chosen token and the k most likely. <= 20.
  std::optional<uint32_t> num_logprobs;
  // The same for prompt tokens (echo). Such a request never reads the prefix cache, since every
  // position's logits are needed.
  std::optional<uint32_t> num_prompt_logprobs;
};

struct Request {
  RequestId id{};
  std::string external_id;      // X-Request-Id or generated; for logs
  std::vector<TokenId> prompt;  // non-empty, ids < vocab_size
  SamplingParams sampling;
  std::string cache_scope;  // API key's digest and cache_salt; roots the block hashes
  int32_t priority = 0;     // lower runs first, with --scheduling-policy priority
  SteadyTime arrival{};
};

enum class FinishReason : uint8_t {
  kNone,       // still running
  kStop,       // eos, a stop token; a stop string is decided by the reader of the channel
  kLength,     // max_tokens or max_model_len
  kCancelled,  // the client left, a stop string matched, or the server is stopping
  kError,      // this request alone failed (logits not finite); others are unaffected
};

constexpr const char* ToString(FinishReason reason) {
  switch (reason) {
    case FinishReason::kNone:
      return "none";
    case FinishReason::kStop:
      return "stop";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kCancelled:
      return "abort";
    case FinishReason::kError:
      return "error";
  }
  return "error";
}

}  // namespace kvs
