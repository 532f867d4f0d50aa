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

void AppendLogprob(float logprob, std::string& out) {
  const float finite = std::isnan(logprob) ? kLogprobFloor : std::max(logprob, kLogprobFloor);
  fmt::format_to(std::back_inserter(out), "{}", finite);
}

void AppendTokenName(const Tokenizer& tokenizer, TokenId token, std::string& out) {
  const std::string_view bytes = tokenizer.TokenBytes(token);
  if (!FindInvalidUtf8(bytes)) return AppendJsonString(bytes, out);
  std::string name = "bytes:";
  for (const char c : bytes) name += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
  AppendJsonString(name, out);
}

void AppendComma(std::string& list) {
  if (!list.empty()) list += ',';
}

void AppendChoice(std::string_view text, const LogprobsJson* logprobs, const ChoiceEnd* end,
                  std::string& out) {
  out += R"(,"text":")";
  AppendEscaped(text, out);
  if (logprobs == nullptr && end == nullptr) {
    out += R"(","logprobs":null,"finish_reason":null,"stop_reason":null})";
    return;
  }
  out += R"(","logprobs":)";
  if (logprobs == nullptr) {
    out += "null";
  } else {
    logprobs->Append(out);
  }
  if (end == nullptr) {
    out += R"(,"finish_reason":null,"stop_reason":null})";
    return;
  }
  out += R"(,"finish_reason":")";
  out += end->finish_reason;
  out += R"(","stop_reason":)";
  out += end->stop_reason;
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

void LogprobsJson::AddName(TokenId token, uint64_t text_offset) {
  AppendComma(tokens_);
  AppendTokenName(tokenizer_, token, tokens_);
  AppendComma(values_);
  AppendComma(tops_);
  AppendComma(offsets_);
  AppendNumber(text_offset, offsets_);
}

void LogprobsJson::AddUnknown(TokenId token, uint64_t text_offset) {
  AddName(token, text_offset);
  values_ += "null";
  tops_ += "null";
}

void LogprobsJson::Add(const PositionLogprobs& position, uint64_t text_offset) {
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

void LogprobsJson::Append(std::string& out) const {
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

void LogprobsJson::Clear() {
  for (std::string* list : {&tokens_, &values_, &tops_, &offsets_}) list->clear();
}

ChunkWriter::ChunkWriter(const AnswerHead& head, bool with_usage_field)
    : prefix_("data: " + AnswerPrefix(head)), with_usage_field_(with_usage_field) {}

void ChunkWriter::Append(uint32_t index, std::string_view text, const LogprobsJson* logprobs,
                         const ChoiceEnd* end, const Usage* usage, std::string& out) const {
  out += prefix_;
  out += R"({"index":)";
  AppendNumber(index, out);
  AppendChoice(text, logprobs, end, out);
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

void ChunkWriter::AppendUsageOnly(const Usage& usage, std::string& out) const {
  out += prefix_;
  out += R"(],"usage":)";
  AppendUsage(usage, out);
  out += "}\n\n";
}

std::string CompletionJson(const AnswerHead& head, const std::vector<FinishedChoice>& choices,
                           const Usage& usage) {
  std::string json = AnswerPrefix(head);
  for (const FinishedChoice& choice : choices) {
    if (&choice != choices.data()) json += ',';
    json += R"({"index":)";
    AppendNumber(choice.index, json);
    AppendChoice(choice.text, choice.logprobs, &choice.end, json);
  }
  json += R"(],"usage":)";
  AppendUsage(usage, json);
  return json + "}";
}

}  // namespace kvs
