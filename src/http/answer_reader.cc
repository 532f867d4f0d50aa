#include "http/answer_reader.h"

#include <algorithm>

#include "template/json_value.h"
#include "template/print.h"

namespace kvs {
namespace {

using jinja::Value;

constexpr std::string_view kThink = "<think>";
constexpr std::string_view kThinkEnd = "</think>";
constexpr std::string_view kToolCall = "<tool_call>";
constexpr std::string_view kToolCallEnd = "</tool_call>";
constexpr std::string_view kPythonTag = "<|python_tag|>";
constexpr std::string_view kWhiteSpace = " \n\t\r";
constexpr size_t kMaxCallBytes = size_t{1} << 20;

bool StartsWith(std::string_view text, std::string_view start) {
  return text.substr(0, start.size()) == start;
}

// `text` may become `mark`: it is a beginning of it.
bool MayBecome(std::string_view text, std::string_view mark) {
  return text.size() < mark.size() && StartsWith(mark, text);
}

// How many bytes at the end of `text` may be the beginning of `mark`.
size_t HeldBack(std::string_view text, std::string_view mark) {
  for (size_t size = std::min(text.size(), mark.size() - 1); size > 0; --size) {
    if (StartsWith(mark, text.substr(text.size() - size))) return size;
  }
  return 0;
}

}  // namespace

void AnswerReader::Append(std::string_view text, AnswerParts& out) {
  if (!reading_.reasoning && !reading_.tool_calls) {  // the common case: nothing to look for
    out.content += text;
    return;
  }
  pending_ += text;
  while (Step(/*at_end=*/false, out)) {
  }
}

void AnswerReader::Finish(AnswerParts& out) {
  while (Step(/*at_end=*/true, out)) {
  }
  if (state_ == State::kJson && AddBrokenCall(pending_, out)) pending_.clear();
  out.content += pending_;
  pending_.clear();
}

bool AnswerReader::Step(bool at_end, AnswerParts& out) {
  switch (state_) {
    case State::kStart:
      return StepStart(at_end);
    case State::kReasoning:
      return StepReasoning(at_end, out);
    case State::kSkip:
      return StepSkip();
    case State::kAnswer:
      return StepAnswer(at_end);
    case State::kContent:
      return StepContent(at_end, out);
    case State::kCall:
      return StepCall(at_end, out);
    case State::kJson:
      return StepJson(out);
  }
  return false;
}

bool AnswerReader::StepStart(bool at_end) {
  if (!reading_.reasoning) {
    state_ = State::kAnswer;
    return true;
  }
  const size_t begin = std::min(pending_.find_first_not_of(kWhiteSpace), pending_.size());
  const std::string_view text = std::string_view(pending_).substr(begin);
  if (StartsWith(text, kThink)) {
    pending_.erase(0, begin + kThink.size());
    state_ = State::kReasoning;
    return true;
  }
  if (!at_end && MayBecome(text, kThink)) return false;
  state_ = reading_.starts_in_reasoning ? State::kReasoning : State::kAnswer;
  return true;
}

bool AnswerReader::StepReasoning(bool at_end, AnswerParts& out) {
  if (!TakeUntil(kThinkEnd, at_end, out.reasoning)) return false;
  state_ = State::kSkip;
  return true;
}

bool AnswerReader::StepSkip() {
  pending_.erase(0, std::min(pending_.find_first_not_of(kWhiteSpace), pending_.size()));
  if (pending_.empty()) return false;
  state_ = State::kAnswer;
  return true;
}

// Llama 3 calls tools here or not at all.
bool AnswerReader::StepAnswer(bool at_end) {
  if (reading_.tool_calls != ToolCallParser::kLlama3Json) {
    state_ = State::kContent;
    return true;
  }
  const size_t begin = std::min(pending_.find_first_not_of(kWhiteSpace), pending_.size());
  const std::string_view text = std::string_view(pending_).substr(begin);
  if (!at_end && MayBecome(text, kPythonTag)) return false;
  const bool calls = StartsWith(text, "{") || StartsWith(text, kPythonTag);
  state_ = calls ? State::kJson : State::kContent;
  return !pending_.empty();
}

bool AnswerReader::StepContent(bool at_end, AnswerParts& out) {
  if (reading_.tool_calls != ToolCallParser::kHermes) {
    out.content += pending_;
    pending_.clear();
    return false;
  }
  if (!TakeUntil(kToolCall, at_end, out.content)) return false;
  state_ = State::kCall;
  return true;
}

bool AnswerReader::StepCall(bool at_end, AnswerParts& out) {
  const size_t end = pending_.find(kToolCallEnd);
  if (end == std::string::npos && !at_end && pending_.size() < kMaxCallBytes) return false;
  const std::string_view json = std::string_view(pending_).substr(0, end);
  const size_t taken = end == std::string::npos ? pending_.size() : end + kToolCallEnd.size();
  if (!AddCall(json, out) && !AddBrokenCall(json, out)) {
    out.content += kToolCall;
    out.content += std::string_view(pending_).substr(0, taken);
    state_ = State::kContent;
  } else {
    state_ = State::kSkip;
  }
  pending_.erase(0, taken);
  return !pending_.empty();
}

// One object after the other, as their braces close.
bool AnswerReader::StepJson(AnswerParts& out) {
  for (; scanned_ < pending_.size(); ++scanned_) {
    const char c = pending_[scanned_];
    if (in_string_) {
      if (!escaped_ && c == '"') in_string_ = false;
      escaped_ = !escaped_ && c == '\\';
      continue;
    }
    if (c == '"') in_string_ = braces_ > 0;
    if (c == '{') ++braces_;
    if (c != '}' || braces_ == 0 || --braces_ > 0) continue;
    const size_t end = scanned_ + 1;
    const size_t begin = pending_.find('{');
    const std::string_view object = std::string_view(pending_).substr(begin, end - begin);
    if (!AddCall(object, out) && !AddBrokenCall(object, out)) {  // an answer in JSON, not a call
      state_ = State::kContent;
      return true;
    }
    pending_.erase(0, end);
    // Several calls stand behind each other, "; " between them.
    const size_t next = pending_.find_first_not_of("; \n\t\r");
    pending_.erase(0, std::min(next, pending_.size()));
    scanned_ = 0;
    return !pending_.empty();
  }
  if (pending_.size() < kMaxCallBytes) return false;
  state_ = State::kContent;
  return true;
}

bool AnswerReader::TakeUntil(std::string_view mark, bool at_end, std::string& to) {
  const size_t found = pending_.find(mark);
  if (found != std::string::npos) {
    to.append(pending_, 0, found);
    pending_.erase(0, found + mark.size());
    return true;
  }
  const size_t certain = pending_.size() - (at_end ? 0 : HeldBack(pending_, mark));
  to.append(pending_, 0, certain);
  pending_.erase(0, certain);
  return false;
}

bool AnswerReader::AddCall(std::string_view json, AnswerParts& out) {
  const auto call = jinja::ParseJsonValue(json, jinja::Origin::kUser);
  if (!call || !call->is_dict()) return false;
  const Value* name = call->dict().Find(std::string_view("name"));
  const Value* arguments = call->dict().Find(std::string_view("arguments"));
  if (arguments == nullptr) arguments = call->dict().Find(std::string_view("parameters"));
  if (name == nullptr || !name->is_string() || arguments == nullptr || !arguments->is_dict()) {
    return false;
  }
  ++num_tool_calls_;
  if (reading_.one_tool_call && num_tool_calls_ > 1) {
    num_tool_calls_ = 1;
    return true;
  }
  out.tool_calls.push_back({name->bytes(), jinja::ToJson(*arguments, {})});
  return true;
}

bool AnswerReader::AddBrokenCall(std::string_view text, AnswerParts& out) {
  if (reading_.begun.empty() || num_tool_calls_ > 0) return false;
  const size_t brace = text.find('{');
  const size_t colon = text.find(':', std::min(brace, text.size()));
  const size_t quote = text.find('"', std::min(colon, text.size()));
  if (quote == std::string_view::npos) return false;
  size_t end = quote + 1;
  while (end < text.size() && text[end] != '"') end += text[end] == '\\' ? 2 : 1;
  if (end >= text.size()) return false;
  const auto name =
      jinja::ParseJsonValue(text.substr(quote, end + 1 - quote), jinja::Origin::kUser);
  if (!name || !name->is_string()) return false;
  const size_t arguments = text.find(':', end);
  std::string_view rest = arguments == std::string_view::npos ? "" : text.substr(arguments + 1);
  rest.remove_prefix(std::min(rest.find_first_not_of(kWhiteSpace), rest.size()));
  ++num_tool_calls_;
  out.tool_calls.push_back({name->bytes(), std::string(rest)});
  return true;
}

}  // namespace kvs
