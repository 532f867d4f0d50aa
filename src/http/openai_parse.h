// JSON of a client -> valid Requests. Every bound on what a client may ask is enforced here, and
// every 400 names the field, the value and the bound.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/engine_handle.h"
#include "http/api_error.h"
#include "kvserve/request.h"
#include "stream/text_assembler.h"
#include "tokenize/tokenizer.h"

namespace kvs {

struct ChatSettings;  // http/chat_settings.h

inline constexpr uint32_t kMaxChoices = 128;  // prompts x n of one call
inline constexpr uint32_t kMaxLogprobs = 20;
inline constexpr uint32_t kMaxStopStrings = 16;
inline constexpr size_t kMaxStopBytes = 1024;  // of one stop string
inline constexpr size_t kMaxStopTokenIds = 1024;
inline constexpr size_t kMaxLogitBias = 1024;
inline constexpr uint32_t kDefaultMaxTokens = 16;
inline constexpr size_t kMaxDetokenizeTokens = 1u << 20;

// What a body is judged against. All referenced values outlive the call.
struct ParseContext {
  const Tokenizer& tokenizer;
  const EngineInfo& info;
  const std::vector<std::string>& served_model_names;
  std::string api_key_digest;  // empty without a key
  std::string request_id;
  SteadyTime arrival{};
  std::function<uint64_t()> draw_seed;
  const ChatSettings* chat = nullptr;  // set where messages may come
};

struct Prompt {
  std::string text;  // what echo answers with
  std::vector<TokenId> tokens;
};

// POST /v1/completions.
struct CompletionCall {
  std::string id;     // of the answer, without "cmpl-"
  std::string model;  // the name to answer with
  std::vector<Prompt> prompts;
  uint32_t n = 1;                 // choices per prompt
  std::vector<Request> requests;  // [prompts.size() * n], the choices of a prompt side by side
  TextOptions text;
  std::vector<TokenId> stop_token_ids;
  bool logprobs = false;  // of the answer's tokens and, with echo, of the prompt's
  bool generates = true;  // false: max_tokens is 0, and the answer is the echo alone
  bool echo = false;
  bool stream = false;
  bool include_usage = false;     // a last chunk with the usage
  bool continuous_usage = false;  // the usage so far on every chunk
};

ApiResult<CompletionCall> ParseCompletion(std::string_view body, const ParseContext& context);

// POST /tokenize.
struct TokenizeCall {
  std::vector<TokenId> tokens;
  bool return_token_strs = false;
};
ApiResult<TokenizeCall> ParseTokenize(std::string_view body, const ParseContext& context);

// POST /detokenize.
ApiResult<std::vector<TokenId>> ParseDetokenize(std::string_view body, const ParseContext& context);

// How the prefix cache keeps apart what must not be shared: each part length-prefixed, so that no
// two pairs give the same text. Empty when both are.
std::string CacheScope(std::string_view api_key_digest, std::string_view cache_salt);

}  // namespace kvs
