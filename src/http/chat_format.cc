#include "http/chat_format.h"

#include <fmt/format.h>

#include <string_view>

#include "http/json_text.h"

namespace kvs {
namespace {

constexpr std::string_view kIdPrefix = "chatcmpl-";

std::string PrefixOf(const AnswerHead& head, const char* object) {
  std::string prefix = R"({"id":)";
  AppendJsonString(head.id, prefix);
  prefix += fmt::format(R"(,"object":"{}","created":{},"model":)", object, head.created);
  AppendJsonString(head.model, prefix);
  prefix += R"(,"system_fingerprint":)";
  AppendJsonString(head.fingerprint, prefix);
  return prefix + R"(,"choices":[)";
}

const ChatLogprobs& OfChat(const ChoiceLogprobs& logprobs) {
  return static_cast<const ChatLogprobs&>(logprobs);  // NewLogprobs makes no others
}

void AppendField(std::string_view name, std::string_view text, std::string& object) {
  if (object.size() > 1) object += ',';
  AppendJsonString(name, object);
  object += ':';
  AppendJsonString(text, object);
}

// `index` in a stream, where calls arrive one by one.
void AppendToolCall(const ToolCallText& call, const std::string& id, const size_t* index,
                    std::string& out) {
  out += '{';
  if (index != nullptr) out += fmt::format(R"("index":{},)", *index);
  out += R"("id":)";
  AppendJsonString(id, out);
  out += R"(,"type":"function","function":{"name":)";
  AppendJsonString(call.name, out);
  out += R"(,"arguments":)";
  AppendJsonString(call.arguments, out);
  out += "}}";
}

}  // namespace

void ChatLogprobs::AppendToken(TokenId token, float logprob) {
  content_ += R"({"token":)";
  AppendTokenName(tokenizer_, token, content_);
  content_ += R"(,"logprob":)";
  AppendLogprob(logprob, content_);
  content_ += R"(,"bytes":[)";
  const std::string_view bytes = tokenizer_.TokenBytes(token);
  for (size_t i = 0; i < bytes.size(); ++i) {
    if (i > 0) content_ += ',';
    content_ += std::to_string(static_cast<unsigned char>(bytes[i]));
  }
  content_ += ']';
}

// Chats echo no prompt, whose first token is the only one of its kind.
void ChatLogprobs::AddUnknown(TokenId, uint64_t) {}

void ChatLogprobs::Add(const PositionLogprobs& position, uint64_t) {
  if (!content_.empty()) content_ += ',';
  AppendToken(position.chosen.token, position.chosen.logprob);
  content_ += R"(,"top_logprobs":[)";
  for (const TokenLogprob& likely : position.top) {
    if (&likely != position.top.data()) content_ += ',';
    AppendToken(likely.token, likely.logprob);
    content_ += '}';
  }
  content_ += "]}";
}

void ChatLogprobs::Append(std::string& out) const {
  out += R"({"content":[)";
  out += content_;
  out += "]}";
}

ChatFormat::ChatFormat(const AnswerHead& head, const AnswerReading& reading, bool with_usage_field,
                       const Tokenizer& tokenizer)
    : id_(head.id.substr(head.id.rfind(kIdPrefix, 0) == 0 ? kIdPrefix.size() : 0)),
      chunk_prefix_("data: " + PrefixOf(head, "chat.completion.chunk")),
      whole_prefix_(PrefixOf(head, "chat.completion")),
      reading_(reading),
      with_usage_field_(with_usage_field),
      tokenizer_(tokenizer) {}

std::unique_ptr<ChoiceLogprobs> ChatFormat::NewLogprobs() const {
  return std::make_unique<ChatLogprobs>(tokenizer_);
}

ChatFormat::Choice& ChatFormat::ChoiceOf(uint32_t index) {
  while (choices_.size() <= index) choices_.push_back(std::make_unique<Choice>(reading_));
  return *choices_[index];
}

std::string ChatFormat::CallId(uint32_t choice, size_t call) const {
  return fmt::format("call_{}_{}_{}", id_, choice, call);
}

const char* ChatFormat::FinishReason(const ChoiceEnd& end, size_t num_tool_calls) const {
  const bool stopped = std::string_view(end.finish_reason) == "stop";
  // OpenAI says "stop" where the client has named the function.
  const bool tells_calls = num_tool_calls > 0 && !reading_.names_function;
  return tells_calls && stopped ? "tool_calls" : end.finish_reason;
}

void ChatFormat::AppendChunk(const ChoicePiece& piece, const Usage* usage, std::string& out) {
  Choice& choice = ChoiceOf(piece.index);
  ChoicePiece bare = piece;
  if (!choice.begun) {
    choice.begun = true;
    bare.logprobs = nullptr;
    AppendEvent(bare, R"({"role":"assistant","content":""})", nullptr, usage, out);
  }
  AnswerParts parts;
  choice.reader.Append(piece.text, parts);
  if (piece.end != nullptr) choice.reader.Finish(parts);
  std::string delta = "{";
  if (!parts.reasoning.empty()) AppendField("reasoning_content", parts.reasoning, delta);
  // A chunk a token also where it adds no text, as completions have it.
  if (!parts.content.empty() || (parts.empty() && piece.end == nullptr)) {
    AppendField("content", parts.content, delta);
  }
  if (!parts.tool_calls.empty()) {
    delta += delta.size() > 1 ? R"(,"tool_calls":[)" : R"("tool_calls":[)";
    for (const ToolCallText& call : parts.tool_calls) {
      if (&call != parts.tool_calls.data()) delta += ',';
      const size_t number = choice.num_calls_sent++;
      AppendToolCall(call, CallId(piece.index, number), &number, delta);
    }
    delta += ']';
  }
  delta += '}';
  const bool has_logprobs = piece.logprobs != nullptr && !OfChat(*piece.logprobs).empty();
  if (!parts.empty() || has_logprobs || piece.end == nullptr) {
    AppendEvent(piece, delta, nullptr, usage, out);
  }
  if (piece.end == nullptr) return;
  bare.logprobs = nullptr;
  AppendEvent(bare, "{}", FinishReason(*piece.end, choice.reader.num_tool_calls()), usage, out);
}

void ChatFormat::AppendEvent(const ChoicePiece& piece, const std::string& delta,
                             const char* finish_reason, const Usage* usage,
                             std::string& out) const {
  out += chunk_prefix_;
  out += fmt::format(R"({{"index":{},"delta":)", piece.index);
  out += delta;
  out += R"(,"logprobs":)";
  const bool has_logprobs = piece.logprobs != nullptr && !OfChat(*piece.logprobs).empty();
  if (has_logprobs) {
    OfChat(*piece.logprobs).Append(out);
  } else {
    out += "null";
  }
  if (finish_reason == nullptr) {
    out += R"(,"finish_reason":null}])";
  } else {
    out += fmt::format(R"(,"finish_reason":"{}","stop_reason":)", finish_reason);
    out += piece.end->stop_reason;
    out += "}]";
  }
  if (usage != nullptr) {
    out += R"(,"usage":)";
    AppendUsage(*usage, out);
  } else if (with_usage_field_) {
    out += R"(,"usage":null)";
  }
  out += "}\n\n";
}

void ChatFormat::AppendUsageChunk(const Usage& usage, std::string& out) {
  out += chunk_prefix_;
  out += R"(],"usage":)";
  AppendUsage(usage, out);
  out += "}\n\n";
}

void ChatFormat::AppendMessage(const ChoicePiece& piece, std::string& out) const {
  AnswerReader reader(reading_);
  AnswerParts parts;
  reader.Append(piece.text, parts);
  reader.Finish(parts);
  out += fmt::format(R"({{"index":{},"message":{{"role":"assistant","content":)", piece.index);
  if (parts.content.empty() && !parts.tool_calls.empty()) {
    out += "null";
  } else {
    AppendJsonString(parts.content, out);
  }
  if (reading_.reasoning) {
    out += R"(,"reasoning_content":)";
    if (parts.reasoning.empty()) {
      out += "null";
    } else {
      AppendJsonString(parts.reasoning, out);
    }
  }
  if (!parts.tool_calls.empty()) {
    out += R"(,"tool_calls":[)";
    for (size_t i = 0; i < parts.tool_calls.size(); ++i) {
      if (i > 0) out += ',';
      AppendToolCall(parts.tool_calls[i], CallId(piece.index, i), nullptr, out);
    }
    out += ']';
  }
  out += R"(},"logprobs":)";
  if (piece.logprobs == nullptr) {
    out += "null";
  } else {
    OfChat(*piece.logprobs).Append(out);
  }
  out += fmt::format(R"(,"finish_reason":"{}","stop_reason":)",
                     FinishReason(*piece.end, parts.tool_calls.size()));
  out += piece.end->stop_reason;
  out += '}';
}

std::string ChatFormat::Whole(const std::vector<ChoicePiece>& choices, const Usage& usage) {
  std::string json = whole_prefix_;
  for (const ChoicePiece& piece : choices) {
    if (&piece != choices.data()) json += ',';
    AppendMessage(piece, json);
  }
  json += R"(],"usage":)";
  AppendUsage(usage, json);
  return json + "}";
}

}  // namespace kvs
