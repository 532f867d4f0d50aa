// The JSON of OpenAI's completions, whole and in server-sent events.
//
// A stream repeats the same object around every piece of text: what does not change is written
// once per call, and a token costs its text's escape and two copies.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "http/answer_format.h"
#include "kvserve/token_event.h"
#include "tokenize/tokenizer.h"

namespace kvs {

void AppendUsage(const Usage& usage, std::string& out);
// The token's text as a JSON string; see CompletionLogprobs for one that is not whole characters.
void AppendTokenName(const Tokenizer& tokenizer, TokenId token, std::string& out);
// As JSON can say it: not below a floor that clients know.
void AppendLogprob(float logprob, std::string& out);

// The logprobs object of one choice or chunk. Tokens are named by their text; one that is not whole
// characters by its bytes, "bytes:\xe2\x80", as OpenAI does, so that no two share a name.
class CompletionLogprobs final : public ChoiceLogprobs {
 public:
  // `tokenizer` outlives it.
  explicit CompletionLogprobs(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  void AddUnknown(TokenId token, uint64_t text_offset) override;
  void Add(const PositionLogprobs& position, uint64_t text_offset) override;
  void Clear() override;
  bool empty() const { return offsets_.empty(); }
  void Append(std::string& out) const;

 private:
  void AddName(TokenId token, uint64_t text_offset);

  const Tokenizer& tokenizer_;
  std::string tokens_;  // each: the elements of its array
  std::string values_;
  std::string tops_;
  std::string offsets_;
};

// The constants of an answer.
struct AnswerHead {
  std::string id;  // with its "cmpl-"
  std::string model;
  std::string fingerprint;
  int64_t created = 0;  // Unix time, seconds
};

class CompletionFormat final : public AnswerFormat {
 public:
  // `with_usage_field`: the client asked for usage, so every chunk has the field. `tokenizer`
  // outlives it.
  CompletionFormat(const AnswerHead& head, bool with_usage_field, const Tokenizer& tokenizer);

  std::unique_ptr<ChoiceLogprobs> NewLogprobs() const override;
  void AppendChunk(const ChoicePiece& piece, const Usage* usage, std::string& out) override;
  void AppendUsageChunk(const Usage& usage, std::string& out) override;
  std::string Whole(const std::vector<ChoicePiece>& choices, const Usage& usage) override;

 private:
  const std::string prefix_;  // up to the first choice
  const bool with_usage_field_;
  const Tokenizer& tokenizer_;
};

}  // namespace kvs
