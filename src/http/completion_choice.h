// CompletionChoice: one choice of a completion while its token events arrive.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "http/openai_format.h"
#include "http/openai_parse.h"
#include "stream/text_assembler.h"
#include "stream/token_channel.h"

namespace kvs {

// Used by the thread that answers the call. `call` and `tokenizer` outlive it.
class CompletionChoice {
 public:
  // `index` is its place among the call's requests.
  CompletionChoice(const CompletionCall& call, uint32_t index, const Tokenizer& tokenizer,
                   std::shared_ptr<TokenChannel> channel);

  // Moves what has arrived to the end of `events`.
  void Take(std::vector<TokenEvent>& events) { channel_->TakeAll(events); }
  // Adds one event's text to text() and its logprobs to logprobs(). Events after the end are
  // ignored: those that the engine sent before it saw that a stop string had matched.
  void Apply(const TokenEvent& event);
  // After a piece was sent: the next one begins empty.
  void ClearPiece();
  void Cancel() { channel_->Cancel(); }

  uint32_t index() const { return index_; }
  const std::string& text() const { return text_; }
  // Null unless the client asked for them.
  const LogprobsJson* logprobs() const { return call_.logprobs ? &logprobs_ : nullptr; }
  // Whether there is something to send: a chunk per token, as clients that time tokens expect, also
  // for one that adds no text yet.
  bool has_piece() const { return has_new_token_ || !text_.empty() || ended(); }

  bool ended() const { return end_.has_value() || !error_.empty(); }
  // REQUIRES: ended() and no error.
  const ChoiceEnd& end() const { return *end_; }
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
  LogprobsJson logprobs_;
  bool begun_ = false;
  std::optional<ChoiceEnd> end_;
  std::string error_;
  bool has_new_token_ = false;  // since ClearPiece
  uint32_t num_output_tokens_ = 0;
  uint32_t num_cached_tokens_ = 0;
};

}  // namespace kvs
