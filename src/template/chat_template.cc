#include "template/chat_template.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <optional>
#include <sstream>

#include "template/json_value.h"
#include "template/strings.h"

namespace kvs {
namespace {

using jinja::Origin;
using jinja::Text;
using jinja::Value;

constexpr size_t kMaxFileBytes = size_t{64} << 20;
constexpr std::array<const char*, 7> kTokenNames = {
    "bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"};
// What every template is given; chat_template_kwargs cannot replace it.
constexpr std::array<std::string_view, 6> kReserved = {
    "messages", "tools", "documents", "add_generation_prompt", "loop", "namespace"};

Value Literal(std::string_view text, Origin origin) {
  return Value::String(std::string(text), origin);
}

Result<std::string> ReadFile(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return Error(Code::kNotFound, fmt::format("cannot read '{}'", path.string()));
  std::ostringstream text;
  text << file.rdbuf();
  std::string bytes = std::move(text).str();
  if (bytes.size() > kMaxFileBytes) {
    return Error(Code::kDataError,
                 fmt::format("'{}' has over {} bytes", path.string(), kMaxFileBytes));
  }
  return bytes;
}

Result<Value> ReadJson(const std::filesystem::path& path) {
  const auto text = ReadFile(path);
  if (!text) return tl::unexpected(text.error());
  auto value = jinja::ParseJsonValue(*text, Origin::kTemplate);
  if (!value) {
    return Error(Code::kDataError, fmt::format("'{}': {}", path.string(), value.error().message()));
  }
  return value;
}

const Value* Member(const Value& object, std::string_view name) {
  return object.is_dict() ? object.dict().Find(name) : nullptr;
}

// A token as these files write it: a string, or an object with its content.
const Value* TokenText(const Value& config, std::string_view name) {
  const Value* token = Member(config, name);
  if (token != nullptr && token->is_dict()) token = Member(*token, "content");
  return token != nullptr && token->is_string() ? token : nullptr;
}

Value MessageWith(std::string_view role, Value content) {
  jinja::Dict message;
  message.Set(Literal("role", Origin::kUser), Literal(role, Origin::kTemplate));
  message.Set(Literal("content", Origin::kUser), std::move(content));
  return Value::OfDict(std::move(message));
}

Value TextPart(std::string_view text) {
  jinja::Dict part;
  part.Set(Literal("type", Origin::kUser), Literal("text", Origin::kUser));
  part.Set(Literal("text", Origin::kUser), Literal(text, Origin::kUser));
  return Value::OfDict(std::move(part));
}

// The text of a message's content: of the last part, where there are parts.
std::optional<Text> FinalText(const Value& messages) {
  if (!messages.is_list() || messages.list().items.empty()) return std::nullopt;
  const Value* content = Member(messages.list().items.back(), "content");
  if (content != nullptr && content->is_list() && !content->list().items.empty()) {
    content = Member(content->list().items.back(), "text");
  }
  if (content == nullptr || !content->is_string()) return std::nullopt;
  return content->text();
}

// Cuts `rendered` where the last message ends. The template may have stripped the message.
Result<Text> CutAfterFinal(const Text& rendered, const Value& messages) {
  const auto final_text = FinalText(messages);
  const auto refuse = [](const char* why) {
    return Error(Code::kInvalidArgument, fmt::format("'continue_final_message': {}", why),
                 "continue_final_message");
  };
  if (!final_text) return refuse("the last message has no text");
  const Text stripped = jinja::StripText(*final_text, nullptr, true, true);
  if (stripped.empty()) return refuse("the last message is empty");
  const size_t at = rendered.bytes().rfind(stripped.bytes());
  if (at == std::string::npos) return refuse("the chat template does not write the last message");
  const Text led = jinja::StripText(*final_text, nullptr, true, false);
  const bool whole = rendered.bytes().compare(at, led.size(), led.bytes()) == 0;
  return rendered.Slice(0, at + (whole ? led.size() : stripped.size()));
}

}  // namespace

Result<void> ChatTemplate::Add(std::string name, std::string_view source) {
  auto parsed = jinja::Template::Parse(source);
  if (!parsed) return tl::unexpected(parsed.error().WithContext("'" + origin_ + "'"));
  const bool is_default = name == "default";
  templates_.insert(is_default ? templates_.begin() : templates_.end(),
                    {std::move(name), *std::move(parsed)});
  return {};
}

// One template, or a list of {"name", "template"}.
Result<void> ChatTemplate::AddAll(const Value& value) {
  if (value.is_string()) return Add("default", value.bytes());
  if (value.is_list()) {
    for (const Value& entry : value.list().items) {
      const Value* name = Member(entry, "name");
      const Value* source = Member(entry, "template");
      if (name == nullptr || source == nullptr || !name->is_string() || !source->is_string()) {
        return Error(
            Code::kDataError,
            fmt::format("'{}': 'chat_template' has an entry without name and template", origin_));
      }
      KVS_RETURN_IF_ERROR(Add(name->bytes(), source->bytes()));
    }
    return {};
  }
  return Error(Code::kDataError,
               fmt::format("'{}': 'chat_template' is neither a string nor a list", origin_));
}

Result<std::unique_ptr<const ChatTemplate>> ChatTemplate::Load(
    const std::filesystem::path& model_dir, const std::string& file) {
  std::unique_ptr<ChatTemplate> chat(new ChatTemplate);
  const auto exists = [&](const char* name) { return std::filesystem::exists(model_dir / name); };
  Value config;
  if (exists("tokenizer_config.json")) {
    auto read = ReadJson(model_dir / "tokenizer_config.json");
    if (!read) return tl::unexpected(read.error());
    config = *std::move(read);
  }
  for (const char* name : kTokenNames) {
    if (const Value* token = TokenText(config, name))
      chat->special_tokens_.emplace_back(name, *token);
  }
  const std::filesystem::path jinja_file =
      file.empty() ? model_dir / "chat_template.jinja" : std::filesystem::path(file);
  const Value* inside = Member(config, "chat_template");
  if (!file.empty() || std::filesystem::exists(jinja_file)) {
    chat->origin_ = jinja_file.string();
    const auto source = ReadFile(jinja_file);
    if (!source) return tl::unexpected(source.error());
    KVS_RETURN_IF_ERROR(chat->Add("default", *source));
  } else if (exists("chat_template.json")) {
    chat->origin_ = (model_dir / "chat_template.json").string();
    const auto read = ReadJson(chat->origin_);
    if (!read) return tl::unexpected(read.error());
    const Value* source = Member(*read, "chat_template");
    KVS_RETURN_IF_ERROR(chat->AddAll(source != nullptr ? *source : Value()));
  } else if (inside != nullptr && !inside->is_none()) {
    chat->origin_ = (model_dir / "tokenizer_config.json").string();
    KVS_RETURN_IF_ERROR(chat->AddAll(*inside));
  }
  if (chat->templates_.empty()) return nullptr;
  KVS_RETURN_IF_ERROR(chat->Probe());
  return chat;
}

// What form of content the template writes out, by trying.
Result<void> ChatTemplate::Probe() {
  constexpr std::string_view kNeedle = "needle-in-the-text";
  const auto writes = [&](Value content) -> Result<bool> {
    ChatInputs inputs;
    inputs.messages = Value::OfList({MessageWith("user", std::move(content))});
    const auto text = Render(inputs);
    if (!text) {
      if (text.error().code() == Code::kInternal) return tl::unexpected(text.error());
      return false;
    }
    // A part that was printed, not read, shows its keys.
    const std::string& bytes = text->bytes();
    return bytes.find(kNeedle) != std::string::npos && bytes.find("'type'") == std::string::npos &&
           bytes.find("\"type\"") == std::string::npos;
  };
  const auto text = writes(Literal(kNeedle, Origin::kUser));
  if (!text) return tl::unexpected(text.error().WithContext("'" + origin_ + "'"));
  const auto parts = writes(Value::OfList({TextPart(kNeedle)}));
  if (!parts) return tl::unexpected(parts.error().WithContext("'" + origin_ + "'"));
  content_form_ = !*parts ? ContentForm::kText
                  : *text ? ContentForm::kTextOrParts
                          : ContentForm::kParts;
  return {};
}

const jinja::Template& ChatTemplate::For(const ChatInputs& inputs) const {
  if (!inputs.tools.is_none()) {
    for (const Named& named : templates_) {
      if (named.name == "tool_use") return named.parsed;
    }
  }
  return templates_.front().parsed;
}

bool ChatTemplate::Reads(std::string_view name) const {
  if (std::find(kReserved.begin(), kReserved.end(), name) != kReserved.end()) return false;
  if (std::find(kTokenNames.begin(), kTokenNames.end(), name) != kTokenNames.end()) return false;
  return std::any_of(templates_.begin(), templates_.end(),
                     [name](const Named& named) { return named.parsed.Reads(name); });
}

Result<Text> ChatTemplate::Render(const ChatInputs& inputs) const {
  jinja::RenderInputs render;
  render.variables = special_tokens_;
  render.variables.insert(render.variables.end(), inputs.variables.begin(), inputs.variables.end());
  render.variables.emplace_back("messages", inputs.messages);
  render.variables.emplace_back("tools", inputs.tools);
  render.variables.emplace_back("documents", Value());
  render.variables.emplace_back("add_generation_prompt",
                                inputs.add_generation_prompt && !inputs.continue_final_message);
  render.now = inputs.now;
  auto text = For(inputs).Render(render);
  if (!text || !inputs.continue_final_message) return text;
  return CutAfterFinal(*text, inputs.messages);
}

}  // namespace kvs
