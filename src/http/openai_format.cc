#include "http/openai_format.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>

#include "http/json_text.h"
#include "tokenize/utf8.h"

namespace kvs {
namespace {

// JSON has no infinity; clients know this floor from vLLM.
constexpr float kLogprobFloor = -9999.0f;

void AppendNumber(uint64_t value, std::string& out) {
  const fmt::format_int digits(value);
  out.append(digits.data(), digits.size());
}

void AppendComma(std::string& list) {
  if (!list.empty()) list += ',';
}

const CompletionLogprobs& OfCompletion(const ChoiceLogprobs& logprobs) {
  return static_cast<const CompletionLogprobs&>(logprobs);  // NewLogprobs makes no others
}

// From its number to the end of its object.
void AppendChoice(const ChoicePiece& piece, std::string& out) {
  out += R"({"index":)";
  AppendNumber(piece.index, out);
  out += R"(,"text":")";
  AppendEscaped(piece.text, out);
  if (piece.logprobs == nullptr && piece.end == nullptr) {
    out += R"(","logprobs":null,"finish_reason":null,"stop_reason":null})";
    return;
  }
  out += R"(","logprobs":)";
  if (piece.logprobs == nullptr) {
    out += "null";
  } else {
    OfCompletion(*piece.logprobs).Append(out);
  }
  if (piece.end == nullptr) {
    out += R"(,"finish_reason":null,"stop_reason":null})";
    return;
  }
  out += R"(,"finish_reason":")";
  out += piece.end->finish_reason;
  out += R"(","stop_reason":)";
  out += piece.end->stop_reason;
  out += '}';
}

std::string AnswerPrefix(const AnswerHead& head) {
  std::string prefix = R"({"id":)";
  AppendJsonString(head.id, prefix);
  prefix += fmt::format(R"(,"object":"text_completion","created":{},"model":)", head.created);
  AppendJsonString(head.model, prefix);
  prefix += R"(,"system_fingerprint":)";
  AppendJsonString(head.fingerprint, prefix);
  return prefix + R"(,"choices":[)";
}

}  // namespace

void AppendTokenName(const Tokenizer& tokenizer, TokenId token, std::string& out) {
  const std::string_view bytes = tokenizer.TokenBytes(token);
  if (!FindInvalidUtf8(bytes)) return AppendJsonString(bytes, out);
  std::string name = "bytes:";
  for (const char c : bytes) name += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
  AppendJsonString(name, out);
}

void AppendLogprob(float logprob, std::string& out) {
  const float finite = std::isnan(logprob) ? kLogprobFloor : std::max(logprob, kLogprobFloor);
  fmt::format_to(std::back_inserter(out), "{}", finite);
}

void AppendUsage(const Usage& usage, std::string& out) {
  out += R"({"prompt_tokens":)";
  AppendNumber(usage.prompt_tokens, out);
  out += R"(,"completion_tokens":)";
  AppendNumber(usage.completion_tokens, out);
  out += R"(,"total_tokens":)";
  AppendNumber(usage.prompt_tokens + usage.completion_tokens, out);
  out += R"(,"prompt_tokens_details":{"cached_tokens":)";
  AppendNumber(usage.cached_tokens, out);
  out += "}}";
}

void CompletionLogprobs::AddName(TokenId token, uint64_t text_offset) {
  AppendComma(tokens_);
  AppendTokenName(tokenizer_, token, tokens_);
  AppendComma(values_);
  AppendComma(tops_);
  AppendComma(offsets_);
  AppendNumber(text_offset, offsets_);
}

void CompletionLogprobs::AddUnknown(TokenId token, uint64_t text_offset) {
  AddName(token, text_offset);
  values_ += "null";
  tops_ += "null";
}

void CompletionLogprobs::Add(const PositionLogprobs& position, uint64_t text_offset) {
  AddName(position.chosen.token, text_offset);
  AppendLogprob(position.chosen.logprob, values_);
  tops_ += '{';
  bool has_chosen = false;
  for (const TokenLogprob& likely : position.top) {
    AppendTokenName(tokenizer_, likely.token, tops_);
    tops_ += ':';
    AppendLogprob(likely.logprob, tops_);
    tops_ += ',';
    has_chosen = has_chosen || likely.token == position.chosen.token;
  }
  if (has_chosen) {
    tops_.back() = '}';
    return;
  }
  AppendTokenName(tokenizer_, position.chosen.token, tops_);
  tops_ += ':';
  AppendLogprob(position.chosen.logprob, tops_);
  tops_ += '}';
}

void CompletionLogprobs::Append(std::string& out) const {
  out += R"({"tokens":[)";
  out += tokens_;
  out += R"(],"token_logprobs":[)";
  out += values_;
  out += R"(],"top_logprobs":[)";
  out += tops_;
  out += R"(],"text_offset":[)";
  out += offsets_;
  out += "]}";
}

void CompletionLogprobs::Clear() {
  for (std::string* list : {&tokens_, &values_, &tops_, &offsets_}) list->clear();
}

CompletionFormat::CompletionFormat(const AnswerHead& head, bool with_usage_field,
                                   const Tokenizer& tokenizer)
    : prefix_(AnswerPrefix(head)), with_usage_field_(with_usage_field), tokenizer_(tokenizer) {}

std::unique_ptr<ChoiceLogprobs> CompletionFormat::NewLogprobs() const {
  return std::make_unique<CompletionLogprobs>(tokenizer_);
}

void CompletionFormat::AppendChunk(const ChoicePiece& piece, const Usage* usage, std::string& out) {
  out += "data: ";
  out += prefix_;
  ChoicePiece written = piece;
  if (written.logprobs != nullptr && OfCompletion(*written.logprobs).empty())
    written.logprobs = nullptr;
  AppendChoice(written, out);
  if (usage != nullptr) {
    out += R"(],"usage":)";
    AppendUsage(*usage, out);
    out += "}\n\n";
  } else if (with_usage_field_) {
    out += "],\"usage\":null}\n\n";
  } else {
    out += "]}\n\n";
  }
}

void CompletionFormat::AppendUsageChunk(const Usage& usage, std::string& out) {
  out += "data: ";
  out += prefix_;
  out += R"(],"usage":)";
  AppendUsage(usage, out);
  out += "}\n\n";
}

std::string CompletionFormat::Whole(const std::vector<ChoicePiece>& choices, const Usage& usage) {
  std::string json = prefix_;
  for (const ChoicePiece& choice : choices) {
    if (&choice != choices.data()) json += ',';
    AppendChoice(choice, json);
  }
  json += R"(],"usage":)";
  AppendUsage(usage, json);
  return json + "}";
}

}  // namespace kvs
