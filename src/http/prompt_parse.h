// The `prompt` field in its four forms: text, texts, token ids, lists of token ids.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "http/json_reader.h"
#include "http/openai_parse.h"

namespace kvs {

struct PromptOptions {
  bool add_special_tokens = true;
  bool want_text = false;                   // fill Prompt::text
  std::optional<uint32_t> truncate_tokens;  // keep the last so many
};

// At most `max_prompts`; each with at least one token. An empty text is a BOS where the tokenizer
// adds one. Refusals go to `reader`, and the result is then empty.
std::vector<Prompt> ReadPrompts(JsonReader& reader, const ParseContext& context,
                                const PromptOptions& options, uint32_t max_prompts);

// How messages name what a request is long by, and what `max_tokens` is when it is absent.
struct LengthFields {
  const char* prompt;
  const char* max_tokens;
  std::optional<uint32_t> default_tokens;  // absent: what is left of the context
};
inline constexpr LengthFields kCompletionLength{"prompt", "max_tokens", kDefaultMaxTokens};

// Whether `prompt` and `max_tokens` fit the context and the KV pool; absent: the default, or what
// is left of the context. The error code is context_length_exceeded.
ApiResult<uint32_t> CheckedMaxTokens(const EngineInfo& info, uint64_t num_prompt_tokens,
                                     std::optional<int64_t> max_tokens,
                                     const LengthFields& fields = kCompletionLength);

}  // namespace kvs
