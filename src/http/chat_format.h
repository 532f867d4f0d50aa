// The JSON of OpenAI's chat completions, whole and in server-sent events.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "http/answer_format.h"
#include "http/answer_reader.h"
#include "http/chat_parse.h"
#include "http/openai_format.h"

namespace kvs {

// One object a token: its text, its bytes, and the most likely others.
class ChatLogprobs final : public ChoiceLogprobs {
 public:
  // `tokenizer` outlives it.
  explicit ChatLogprobs(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  void AddUnknown(TokenId token, uint64_t text_offset) override;
  void Add(const PositionLogprobs& position, uint64_t text_offset) override;
  void Clear() override { content_.clear(); }
  bool empty() const { return content_.empty(); }
  void Append(std::string& out) const;

 private:
  void AppendToken(TokenId token, float logprob);

  const Tokenizer& tokenizer_;
  std::string content_;  // the elements of its array
};

class ChatFormat final : public AnswerFormat {
 public:
  // `with_usage_field`: every chunk has the field. `tokenizer` outlives it.
  ChatFormat(const AnswerHead& head, const AnswerReading& reading, bool with_usage_field,
             const Tokenizer& tokenizer);

  std::unique_ptr<ChoiceLogprobs> NewLogprobs() const override;
  void AppendChunk(const ChoicePiece& piece, const Usage* usage, std::string& out) override;
  void AppendUsageChunk(const Usage& usage, std::string& out) override;
  std::string Whole(const std::vector<ChoicePiece>& choices, const Usage& usage) override;

 private:
  // One choice of a stream.
  struct Choice {
    explicit Choice(const AnswerReading& reading) : reader(reading) {}
    AnswerReader reader;
    bool begun = false;
    size_t num_calls_sent = 0;
  };

  Choice& ChoiceOf(uint32_t index);
  void AppendEvent(const ChoicePiece& piece, const std::string& delta, const char* finish_reason,
                   const Usage* usage, std::string& out) const;
  void AppendMessage(const ChoicePiece& piece, std::string& out) const;
  std::string CallId(uint32_t choice, size_t call) const;
  const char* FinishReason(const ChoiceEnd& end, size_t num_tool_calls) const;

  const std::string id_;
  const std::string chunk_prefix_;  // up to the first choice
  const std::string whole_prefix_;
  const AnswerReading reading_;
  const bool with_usage_field_;
  const Tokenizer& tokenizer_;
  std::vector<std::unique_ptr<Choice>> choices_;  // by index
};

}  // namespace kvs
