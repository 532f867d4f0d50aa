// Token events -> the JSON of OpenAI's completions, whole and in server-sent events.
//
// A stream repeats the same object around every piece of text: what does not change is written
// once per call, and a token costs its text's escape and two copies.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kvserve/token_event.h"
#include "tokenize/tokenizer.h"

namespace kvs {

struct Usage {
  uint64_t prompt_tokens = 0;
  uint64_t completion_tokens = 0;
  uint64_t cached_tokens = 0;  // always written: absence is read as "not supported"
};
void AppendUsage(const Usage& usage, std::string& out);

// The logprobs object of one choice or chunk. Tokens are named by their text; one that is not whole
// characters by its bytes, "bytes:\xe2\x80", as OpenAI does, so that no two share a name.
class LogprobsJson {
 public:
  explicit LogprobsJson(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  // A position whose probability nothing can tell: the first of a prompt.
  void AddUnknown(TokenId token, uint64_t text_offset);
  void Add(const PositionLogprobs& position, uint64_t text_offset);
  bool empty() const { return offsets_.empty(); }
  void Append(std::string& out) const;
  void Clear();

 private:
  void AddName(TokenId token, uint64_t text_offset);

  const Tokenizer& tokenizer_;
  std::string tokens_;  // each: the elements of its array
  std::string values_;
  std::string tops_;
  std::string offsets_;
};

// Why a choice ended: null while it runs.
struct ChoiceEnd {
  const char* finish_reason;  // "stop", "length", "abort"
  std::string stop_reason;    // JSON: the stop string, the stop token's id, or null
};

// The constants of an answer.
struct AnswerHead {
  std::string id;  // with its "cmpl-"
  std::string model;
  std::string fingerprint;
  int64_t created = 0;  // Unix time, seconds
};

class ChunkWriter {
 public:
  // `with_usage_field`: the client asked for usage, so every chunk has the field.
  ChunkWriter(const AnswerHead& head, bool with_usage_field);

  // Adds "data: {...}\n\n". `text` is UTF-8. Null or absent arguments are JSON nulls.
  void Append(uint32_t index, std::string_view text, const LogprobsJson* logprobs,
              const ChoiceEnd* end, const Usage* usage, std::string& out) const;
  // The chunk without choices that ends a stream with include_usage.
  void AppendUsageOnly(const Usage& usage, std::string& out) const;

 private:
  const std::string prefix_;  // up to the number of the choice
  const bool with_usage_field_;
};

inline constexpr std::string_view kStreamEnd = "data: [DONE]\n\n";

struct FinishedChoice {
  uint32_t index;
  std::string_view text;
  const LogprobsJson* logprobs;  // null: not asked for
  const ChoiceEnd& end;
};
// The whole answer.
std::string CompletionJson(const AnswerHead& head, const std::vector<FinishedChoice>& choices,
                           const Usage& usage);

}  // namespace kvs
