#include "http/completion_choice.h"

#include <algorithm>
#include <utility>

#include "http/json_text.h"
#include "kvserve/check.h"

namespace kvs {
namespace {

uint64_t NumChars(std::string_view utf8) {
  const auto begins = [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; };
  return static_cast<uint64_t>(std::count_if(utf8.begin(), utf8.end(), begins));
}

}  // namespace

CompletionChoice::CompletionChoice(const CompletionCall& call, uint32_t index,
                                   const Tokenizer& tokenizer,
                                   std::shared_ptr<TokenChannel> channel,
                                   std::unique_ptr<ChoiceLogprobs> logprobs)
    : call_(call),
      index_(index),
      tokenizer_(tokenizer),
      channel_(std::move(channel)),
      assembler_(tokenizer, call.text),
      logprobs_(std::move(logprobs)) {}

void CompletionChoice::Apply(const TokenEvent& event) {
  if (ended()) return;
  if (!begun_) Begin(event);
  // With max_tokens 0 the engine's token, if it sends one, is not part of the answer.
  const bool counts = event.has_token && call_.generates;
  if (counts) {
    ++num_output_tokens_;
    has_new_token_ = true;
    if (event.logprobs != nullptr && logprobs_ != nullptr) {
      logprobs_->Add(*event.logprobs, echo_chars_ + assembler_.text_offset());
    }
    if (!event.token_is_stop && assembler_.Append(event.token, text_)) {
      channel_->Cancel();
      return EndByStopString();
    }
  }
  if (event.finish != FinishReason::kNone) End(event);
}

void CompletionChoice::ClearPiece() {
  has_new_token_ = false;
  text_.clear();
  if (logprobs_ != nullptr) logprobs_->Clear();
}

void CompletionChoice::Begin(const TokenEvent& event) {
  begun_ = true;
  num_cached_tokens_ = event.num_cached_tokens;
  if (call_.echo) AddEcho(event);
}

void CompletionChoice::AddEcho(const TokenEvent& event) {
  const Prompt& prompt = call_.prompts[index_ / call_.n];
  text_ += prompt.text;
  echo_chars_ = NumChars(prompt.text);
  if (logprobs_ == nullptr) return;
  // Null with nothing to tell: a prompt of one token, or a request that ended before its prefill.
  const size_t num_known = event.prompt_logprobs != nullptr ? event.prompt_logprobs->size() : 0;
  if (num_known == 0 && prompt.tokens.size() > 1) return;
  KVS_CHECK_OP(num_known + 1, ==, prompt.tokens.size());
  Detokenizer offsets(tokenizer_, call_.text.skip_special_tokens);
  std::string chars;
  for (size_t i = 0; i < prompt.tokens.size(); ++i) {
    if (i == 0) {
      logprobs_->AddUnknown(prompt.tokens[i], offsets.num_chars());
    } else {
      logprobs_->Add((*event.prompt_logprobs)[i - 1], offsets.num_chars());
    }
    offsets.Append(prompt.tokens[i], chars);
    chars.clear();
  }
}

void CompletionChoice::EndByStopString() {
  std::string stop_string;
  AppendJsonString(call_.text.stop_strings[*assembler_.matched_stop()], stop_string);
  end_ = {"stop", std::move(stop_string)};
}

void CompletionChoice::End(const TokenEvent& event) {
  if (event.finish == FinishReason::kError) {
    error_ = event.error.empty() ? "the model failed on this request" : event.error;
    return;
  }
  if (assembler_.Finish(text_)) return EndByStopString();
  const auto& stop_ids = call_.stop_token_ids;
  const bool by_id = event.has_token && event.token_is_stop &&
                     std::find(stop_ids.begin(), stop_ids.end(), event.token) != stop_ids.end();
  end_ = {ToString(event.finish), by_id ? std::to_string(event.token.value) : "null"};
}

}  // namespace kvs
