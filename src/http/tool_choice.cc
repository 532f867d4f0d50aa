#include "http/tool_choice.h"

#include <fmt/format.h>

#include <string_view>
#include <utility>

#include "template/print.h"

namespace kvs {
namespace {

using jinja::Origin;
using jinja::Text;
using jinja::Value;

tl::unexpected<ApiError> Refuse(std::string_view what) {
  return tl::unexpected(InvalidRequest(fmt::format("'tool_choice' {}", what), "tool_choice"));
}

const Value* Member(const Value& value, std::string_view name) {
  return value.is_dict() ? value.dict().Find(name) : nullptr;
}

std::string NameOf(const Value& tool) {
  const Value* function = Member(tool, "function");
  const Value* name = function != nullptr ? Member(*function, "name") : nullptr;
  return name != nullptr && name->is_string() ? name->bytes() : std::string();
}

bool HasTool(const Value& tools, const std::string& name) {
  for (const Value& tool : tools.list().items) {
    if (NameOf(tool) == name) return true;
  }
  return false;
}

ApiResult<ToolChoice> Forced(bool named, std::string function, const ChatOptions& options) {
  if (options.tool_call_parser) return ToolChoice{true, true, named, std::move(function)};
  return Refuse(
      "asks for a call, but this server does not know how its model writes one: it was started "
      "without --tool-call-parser; 'none' is allowed");
}

ApiResult<ToolChoice> Automatic(const ChatOptions& options) {
  if (options.enable_auto_tool_choice && options.tool_call_parser)
    return ToolChoice{true, false, false, {}};
  return Refuse(
      "is 'auto', which this server does not do: it was started without "
      "--enable-auto-tool-choice and --tool-call-parser; 'none' is allowed");
}

}  // namespace

ApiResult<ToolChoice> ReadToolChoice(const Value& choice, const Value& tools,
                                     const ChatOptions& options) {
  const bool has_tools = tools.is_list() && !tools.list().items.empty();
  const std::string word = choice.is_string() ? choice.bytes() : std::string();
  if (word == "none" || (choice.is_none() && !has_tools)) return ToolChoice{};
  if (!has_tools) return Refuse("needs 'tools'");
  if (choice.is_none() || word == "auto") return Automatic(options);
  if (word == "required") {
    const auto& items = tools.list().items;
    return Forced(false, items.size() == 1 ? NameOf(items.front()) : std::string(), options);
  }
  const Value* type = Member(choice, "type");
  const std::string name = NameOf(choice);
  if (type == nullptr || !type->is_string() || type->bytes() != "function" || name.empty()) {
    return Refuse(
        "must be 'none', 'auto', 'required', or {\"type\": \"function\", \"function\": {\"name\": "
        "...}}: no other is supported by this server");
  }
  if (!HasTool(tools, name)) {
    return Refuse(fmt::format("names '{}', which is not one of 'tools'", name.substr(0, 64)));
  }
  return Forced(true, name, options);
}

// It ends where tokens do: a blank belongs to the token behind it.
Text BeginningOfCall(ToolCallParser parser, const std::string& function) {
  const bool hermes = parser == ToolCallParser::kHermes;
  Text text;
  text.Append(hermes ? "<tool_call>\n{\"name\":" : "{\"name\":", Origin::kTemplate);
  if (function.empty()) {
    text.Append(" \"", Origin::kTemplate);
    return text;
  }
  text.Append(" ", Origin::kTemplate);
  text.Append(jinja::ToJson(Value::String(function, Origin::kUser), {}), Origin::kUser);
  text.Append(hermes ? ", \"arguments\":" : ", \"parameters\":", Origin::kTemplate);
  return text;
}

}  // namespace kvs
