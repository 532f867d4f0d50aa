// CompletionChoice: one choice of a completion while its token events arrive.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "http/answer_format.h"
#include "http/openai_parse.h"
#include "stream/text_assembler.h"
#include "stream/token_channel.h"

namespace kvs {

// Used by one thread at a time. `call` and `tokenizer` outlive it.
class CompletionChoice {
 public:
  // `index` is its place among the call's requests; `logprobs` null unless the client asked for
  // them.
  CompletionChoice(const CompletionCall& call, uint32_t index, const Tokenizer& tokenizer,
                   std::shared_ptr<TokenChannel> channel, std::unique_ptr<ChoiceLogprobs> logprobs);

  // Moves what has arrived to the end of `events`.
  void Take(std::vector<TokenEvent>& events) { channel_->TakeAll(events); }
  // Adds one event's text and logprobs to the piece. Events after the end are ignored: those that
  // the engine sent before it saw that a stop string had matched.
  void Apply(const TokenEvent& event);
  // After a piece was sent: the next one begins empty.
  void ClearPiece();
  void Cancel() { channel_->Cancel(); }

  uint32_t index() const { return index_; }
  // What came since ClearPiece, or from the start. Valid until the next call.
  ChoicePiece piece() const { return {index_, text_, logprobs_.get(), end_ ? &*end_ : nullptr}; }
  // Whether there is something to send: a chunk per token, as clients that time tokens expect, also
  // for one that adds no text yet.
  bool has_piece() const { return has_new_token_ || !text_.empty() || ended(); }

  bool ended() const { return end_.has_value() || !error_.empty(); }
  const std::string& error() const { return error_; }  // empty: none
  uint32_t num_output_tokens() const { return num_output_tokens_; }
  uint32_t num_cached_tokens() const { return num_cached_tokens_; }

 private:
  void Begin(const TokenEvent& event);
  void AddEcho(const TokenEvent& event);
  void End(const TokenEvent& event);
  void EndByStopString();

  const CompletionCall& call_;
  const uint32_t index_;
  const Tokenizer& tokenizer_;
  const std::shared_ptr<TokenChannel> channel_;
  TextAssembler assembler_;
  uint64_t echo_chars_ = 0;  // characters of the prompt in front of the answer's text
  std::string text_;
  const std::unique_ptr<ChoiceLogprobs> logprobs_;  // null: not asked for
  bool begun_ = false;
  std::optional<ChoiceEnd> end_;
  std::string error_;
  bool has_new_token_ = false;  // since ClearPiece
  uint32_t num_output_tokens_ = 0;
  uint32_t num_cached_tokens_ = 0;
};

}  // namespace kvs
