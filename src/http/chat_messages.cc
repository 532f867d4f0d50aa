#include "http/chat_messages.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "template/characters.h"
#include "template/json_value.h"
#include "template/print.h"

namespace kvs {
namespace {

using jinja::Dict;
using jinja::Origin;
using jinja::Text;
using jinja::Value;
using Form = ChatTemplate::ContentForm;

constexpr std::array<std::string_view, 6> kRoles = {"system",    "developer", "user",
                                                    "assistant", "tool",      "function"};

Value Key(std::string_view name) { return Value::String(std::string(name), Origin::kTemplate); }

// Short, one line: a container is named, not shown.
std::string ShownValue(const Value* value) {
  if (value == nullptr) return "nothing";
  if (value->is_list()) return value->list().items.empty() ? "[]" : "a list";
  if (value->is_dict()) return value->dict().size() == 0 ? "{}" : "an object";
  constexpr size_t kMaxShown = 60;  // characters
  if (!value->is_string()) return jinja::ToJson(*value, {});
  const std::string& bytes = value->bytes();
  const size_t end = jinja::OffsetOf(bytes, kMaxShown);
  const Value head = Value::String(bytes.substr(0, end), Origin::kUser);
  return jinja::ToJson(head, {.ensure_ascii = true, .indent = {}}) +
         (end < bytes.size() ? "..." : "");
}

tl::unexpected<ApiError> Refusal(const std::string& field, std::string_view must,
                                 const Value* value) {
  return tl::unexpected(
      InvalidRequest(fmt::format("'{}' {}, got {}", field, must, ShownValue(value)), field));
}

const Value* Member(const Value& object, std::string_view name) {
  const Value* value = object.is_dict() ? object.dict().Find(name) : nullptr;
  return value != nullptr && !value->is_none() ? value : nullptr;
}

// One message, its fields read in the order in which templates see them.
class MessageReader {
 public:
  MessageReader(const Value& message, std::string name, Form form)
      : message_(message), name_(std::move(name)), form_(form) {}

  ApiResult<Value> Read() {
    if (!message_.is_dict()) return Refusal(name_, "must be an object", &message_);
    for (const auto step : {&MessageReader::ReadRole, &MessageReader::ReadContent,
                            &MessageReader::ReadTexts, &MessageReader::ReadToolCalls}) {
      if (auto read = (this->*step)(); !read) return tl::unexpected(read.error());
    }
    return Value::OfDict(std::move(result_));
  }

 private:
  std::string Field(std::string_view name) const { return fmt::format("{}.{}", name_, name); }

  ApiResult<void> ReadRole() {
    const Value* role = Member(message_, "role");
    const bool known = role != nullptr && role->is_string() &&
                       std::find(kRoles.begin(), kRoles.end(), role->bytes()) != kRoles.end();
    if (!known) {
      return Refusal(Field("role"),
                     "must be 'system', 'developer', 'user', 'assistant', 'tool' or 'function'",
                     role);
    }
    role_ = role->bytes();
    result_.Set(Key("role"), Key(role_));
    return {};
  }

  ApiResult<void> ReadContent() {
    const Value* content = Member(message_, "content");
    if (content == nullptr) {
      if (role_ != "assistant") {
        return Refusal(Field("content"), "must be a string or a list of text parts", content);
      }
      result_.Set(Key("content"), Value());
      return {};
    }
    if (content->is_string()) {
      result_.Set(Key("content"),
                  form_ == Form::kParts ? Value::OfList({Part(*content)}) : *content);
      return {};
    }
    if (!content->is_list() || content->is_tuple()) {
      return Refusal(Field("content"), "must be a string or a list of text parts", content);
    }
    std::vector<Value> texts;
    for (size_t i = 0; i < content->list().items.size(); ++i) {
      auto text = PartText(content->list().items[i], fmt::format("{}[{}]", Field("content"), i));
      if (!text) return tl::unexpected(text.error());
      texts.push_back(*std::move(text));
    }
    result_.Set(Key("content"), form_ == Form::kText ? Joined(texts) : Parts(texts));
    return {};
  }

  static ApiResult<Value> PartText(const Value& part, const std::string& name) {
    if (part.is_string()) return part;
    const Value* type = Member(part, "type");
    if (type == nullptr || !type->is_string() || type->bytes() != "text") {
      return Refusal(name + ".type", "must be 'text': this server reads no images or sounds", type);
    }
    const Value* text = Member(part, "text");
    if (text == nullptr || !text->is_string())
      return Refusal(name + ".text", "must be a string", text);
    return *text;
  }

  static Value Part(const Value& text) {
    Dict part;
    part.Set(Key("type"), Key("text"));
    part.Set(Key("text"), text);
    return Value::OfDict(std::move(part));
  }

  static Value Parts(const std::vector<Value>& texts) {
    std::vector<Value> parts;
    for (const Value& text : texts) parts.push_back(Part(text));
    return Value::OfList(std::move(parts));
  }

  // For templates that know texts alone: a part a line, as vLLM.
  static Value Joined(const std::vector<Value>& texts) {
    Text joined;
    for (const Value& text : texts) {
      if (&text != texts.data()) joined.Append("\n", Origin::kUser);
      joined.Append(text.text());
    }
    return Value(std::move(joined));
  }

  ApiResult<void> ReadTexts() {
    for (const char* name : {"name", "tool_call_id", "reasoning_content"}) {
      const Value* value = Member(message_, name);
      if (value == nullptr) continue;
      if (!value->is_string()) return Refusal(Field(name), "must be a string", value);
      result_.Set(Key(name), *value);
    }
    return {};
  }

  ApiResult<void> ReadToolCalls() {
    const Value* calls = Member(message_, "tool_calls");
    if (calls == nullptr) return {};
    if (!calls->is_list()) return Refusal(Field("tool_calls"), "must be a list", calls);
    if (calls->list().items.empty()) return {};
    if (role_ != "assistant") {
      return Refusal(Field("tool_calls"), "is for messages of the assistant", calls);
    }
    std::vector<Value> read;
    for (size_t i = 0; i < calls->list().items.size(); ++i) {
      auto call = ToolCall(calls->list().items[i], fmt::format("{}[{}]", Field("tool_calls"), i));
      if (!call) return tl::unexpected(call.error());
      read.push_back(*std::move(call));
    }
    result_.Set(Key("tool_calls"), Value::OfList(std::move(read)));
    return {};
  }

  static ApiResult<Value> ToolCall(const Value& call, const std::string& name) {
    const Value* function = Member(call, "function");
    const Value* function_name = function != nullptr ? Member(*function, "name") : nullptr;
    if (function_name == nullptr || !function_name->is_string()) {
      return Refusal(name + ".function.name", "must be a string", function_name);
    }
    auto arguments = Arguments(Member(*function, "arguments"), name + ".function.arguments");
    if (!arguments) return tl::unexpected(arguments.error());
    Dict read_function;
    read_function.Set(Key("name"), *function_name);
    read_function.Set(Key("arguments"), *std::move(arguments));
    Dict read;
    if (const Value* id = Member(call, "id"); id != nullptr) {
      if (!id->is_string()) return Refusal(name + ".id", "must be a string", id);
      read.Set(Key("id"), *id);
    }
    read.Set(Key("type"), Key("function"));
    read.Set(Key("function"), Value::OfDict(std::move(read_function)));
    return Value::OfDict(std::move(read));
  }

  // Clients send JSON in a string; templates want the object.
  static ApiResult<Value> Arguments(const Value* arguments, const std::string& name) {
    if (arguments == nullptr) return Value::OfDict({});
    if (arguments->is_dict()) return *arguments;
    if (arguments->is_string()) {
      if (arguments->text().empty()) return Value::OfDict({});
      auto parsed = jinja::ParseJsonValue(arguments->bytes(), Origin::kUser);
      if (parsed && parsed->is_dict()) return *std::move(parsed);
    }
    return Refusal(name, "must be a JSON object, in a string", arguments);
  }

  const Value& message_;
  const std::string name_;
  const Form form_;
  std::string role_;
  Dict result_;
};

}  // namespace

ApiResult<Value> ReadMessages(const Value& messages, Form form) {
  if (!messages.is_list() || messages.list().items.empty()) {
    return Refusal("messages", "must be a list of at least one message", &messages);
  }
  std::vector<Value> read;
  for (size_t i = 0; i < messages.list().items.size(); ++i) {
    auto message =
        MessageReader(messages.list().items[i], fmt::format("messages[{}]", i), form).Read();
    if (!message) return message;
    read.push_back(*std::move(message));
  }
  return Value::OfList(std::move(read));
}

ApiResult<Value> ReadTools(const Value& tools) {
  if (tools.is_none()) return Value();
  if (!tools.is_list() || tools.list().items.size() > kMaxTools) {
    return Refusal("tools", fmt::format("must be a list of at most {} tools", kMaxTools), &tools);
  }
  for (size_t i = 0; i < tools.list().items.size(); ++i) {
    const Value& tool = tools.list().items[i];
    const std::string name = fmt::format("tools[{}]", i);
    const Value* type = Member(tool, "type");
    if (type == nullptr || !type->is_string() || type->bytes() != "function") {
      return Refusal(name + ".type", "must be 'function'", type);
    }
    const Value* function = Member(tool, "function");
    const Value* function_name = function != nullptr ? Member(*function, "name") : nullptr;
    if (function_name == nullptr || !function_name->is_string() || function_name->text().empty()) {
      return Refusal(name + ".function.name", "must be a string that is not empty", function_name);
    }
  }
  if (tools.list().items.empty()) return Value();
  return tools;
}

}  // namespace kvs
