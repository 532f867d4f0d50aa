#include "http/chat_parse.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <ctime>
#include <utility>

#include "http/chat_messages.h"
#include "http/chat_settings.h"
#include "http/request_fields.h"
#include "http/tool_choice.h"
#include "template/json_value.h"

namespace kvs {
namespace {

using jinja::Origin;
using jinja::Text;
using jinja::Value;

constexpr std::array<std::string_view, 24> kChatFieldsNotOffered = {"functions",
                                                                    "function_call",
                                                                    "audio",
                                                                    "prediction",
                                                                    "store",
                                                                    "web_search_options",
                                                                    "documents",
                                                                    "chat_template",
                                                                    "use_beam_search",
                                                                    "prompt_logprobs",
                                                                    "bad_words",
                                                                    "guided_json",
                                                                    "guided_regex",
                                                                    "guided_choice",
                                                                    "guided_grammar",
                                                                    "structured_outputs",
                                                                    "allowed_token_ids",
                                                                    "logits_processors",
                                                                    "mm_processor_kwargs",
                                                                    "best_of",
                                                                    "return_token_ids",
                                                                    "return_tokens_as_token_ids",
                                                                    "truncate_prompt_tokens",
                                                                    "echo"};

constexpr std::array<std::string_view, 44> kChatFields = {"model",
                                                          "messages",
                                                          "n",
                                                          "max_tokens",
                                                          "max_completion_tokens",
                                                          "min_tokens",
                                                          "temperature",
                                                          "top_k",
                                                          "top_p",
                                                          "min_p",
                                                          "seed",
                                                          "presence_penalty",
                                                          "stop",
                                                          "logprobs",
                                                          "frequency_penalty",
                                                          "logit_bias",
                                                          "repetition_penalty",
                                                          "stream",
                                                          "top_logprobs",
                                                          "stop_token_ids",
                                                          "ignore_eos",
                                                          "stream_options",
                                                          "user",
                                                          "cache_salt",
                                                          "priority",
                                                          "tools",
                                                          "tool_choice",
                                                          "metadata",
                                                          "modalities",
                                                          "skip_special_tokens",
                                                          "request_id",
                                                          "parallel_tool_calls",
                                                          "response_format",
                                                          "reasoning_effort",
                                                          "service_tier",
                                                          "include_stop_str_in_output",
                                                          "add_special_tokens",
                                                          "add_generation_prompt",
                                                          "verbosity",
                                                          "continue_final_message",
                                                          "chat_template_kwargs",
                                                          "safety_identifier",
                                                          "prompt_cache_key",
                                                          "include_reasoning"};

constexpr LengthFields kChatLength{"messages", "max_completion_tokens", std::nullopt};
constexpr size_t kMaxTemplateVariables = 32;

// A conversation rendered and encoded.
struct ChatPrompt {
  std::string text;
  std::vector<TokenId> tokens;
};

class ChatReader {
 public:
  ChatReader(std::string_view body, const Json& json, const ParseContext& context)
      : reader_(json), context_(context), chat_(*context.chat) {
    // A second reading of the same text, which keeps the order of keys: templates print tools and
    // arguments as they came. The first one has refused what this one could.
    if (auto ordered = jinja::ParseJsonValue(body, Origin::kUser)) body_ = *std::move(ordered);
  }

  JsonReader& reader() { return reader_; }

  // The conversation and its options, as the template takes them.
  ApiResult<ChatInputs> ReadInputs() {
    if (chat_.chat_template == nullptr)
      return tl::unexpected(InvalidRequest(chat_.why_no_template));
    ChatInputs inputs;
    inputs.now = std::time(nullptr);
    if (auto messages = ReadMessages(Field("messages"), chat_.chat_template->content_form())) {
      inputs.messages = *std::move(messages);
    } else {
      return tl::unexpected(messages.error());
    }
    if (auto tools = ReadTools(Field("tools"))) {
      inputs.tools = *std::move(tools);
    } else {
      return tl::unexpected(tools.error());
    }
    ReadOptions(inputs);
    if (reader_.error()) return tl::unexpected(*reader_.error());
    return inputs;
  }

  ApiResult<ToolChoice> ReadChoice(const ChatInputs& inputs);
  Text BeginningOf(const ToolChoice& choice) const {
    if (!choice.forced) return Text();
    return BeginningOfCall(*chat_.options.tool_call_parser, choice.function);
  }
  // `beginning` of the answer stands behind the prompt.
  ApiResult<ChatPrompt> Render(const ChatInputs& inputs, const Text& beginning);
  // Which of the model's habits to look for in its answer.
  AnswerReading ReadReading(const ChatPrompt& prompt, const ToolChoice& choice);

 private:
  Value Field(std::string_view name) const {
    const Value* value = body_.is_dict() ? body_.dict().Find(name) : nullptr;
    return value != nullptr ? *value : Value();
  }

  void ReadOptions(ChatInputs& inputs) {
    bool given = false;
    const Json* asked = reader_.Find("add_generation_prompt");
    reader_.Bool("add_generation_prompt", inputs.add_generation_prompt);
    given = asked != nullptr && inputs.add_generation_prompt;
    reader_.Bool("continue_final_message", inputs.continue_final_message);
    if (given && inputs.continue_final_message) {
      reader_.Refuse("continue_final_message", "is not allowed with 'add_generation_prompt': true");
    }
    ReadVariables(inputs);
    ReadEffort(inputs);
  }

  void ReadVariables(ChatInputs& inputs) {
    const Value variables = Field("chat_template_kwargs");
    if (variables.is_none()) return;
    if (!variables.is_dict() || variables.dict().size() > kMaxTemplateVariables) {
      return reader_.Refuse(
          "chat_template_kwargs",
          fmt::format("must be an object of at most {} entries", kMaxTemplateVariables));
    }
    for (const auto& [name, value] : variables.dict().entries()) {
      const std::string field = "chat_template_kwargs." + name.bytes().substr(0, 64);
      if (!chat_.chat_template->Reads(name.bytes())) {
        return reader_.Refuse(InvalidRequest(
            fmt::format("'{}' is not a variable of this model's chat template", field), field));
      }
      const bool scalar = value.is_number() || value.is_none() ||
                          (value.is_string() && value.text().size() <= kMaxNameBytes);
      if (!scalar) {
        return reader_.Refuse(InvalidRequest(
            fmt::format("'{}' must be a number, a boolean, null, or a string of at most {} bytes",
                        field, kMaxNameBytes),
            field));
      }
      inputs.variables.emplace_back(name.bytes(), value);
    }
  }

  void ReadEffort(ChatInputs& inputs) {
    std::string effort;
    reader_.String("reasoning_effort", kMaxNameBytes, effort);
    if (effort.empty()) return;
    if (!chat_.chat_template->Reads("reasoning_effort")) {
      return reader_.Refuse(InvalidRequest(
          "'reasoning_effort' is not known to this model's chat template", "reasoning_effort"));
    }
    inputs.variables.emplace_back("reasoning_effort", Value::String(effort, Origin::kUser));
  }

  ApiResult<std::vector<TokenId>> Encode(const Text& text);

  JsonReader reader_;
  const ParseContext& context_;
  const ChatSettings& chat_;
  Value body_;
};

ApiResult<ChatPrompt> ChatReader::Render(const ChatInputs& inputs, const Text& beginning) {
  auto rendered = chat_.chat_template->Render(inputs);
  if (!rendered) {
    ApiError error = FromStatus(rendered.error());
    if (error.param.empty()) error.param = "messages";
    return tl::unexpected(std::move(error));
  }
  ChatPrompt prompt{rendered->bytes(), {}};
  rendered->Append(beginning);
  auto tokens = Encode(*rendered);
  if (!tokens) return tl::unexpected(tokens.error());
  prompt.tokens = *std::move(tokens);
  return prompt;
}

ApiResult<std::vector<TokenId>> ChatReader::Encode(const Text& text) {
  std::vector<ByteRange> literal;
  for (const jinja::ByteSpan& span : text.user_spans()) literal.push_back({span.begin, span.end});
  EncodeOptions options;
  options.add_special_tokens = false;  // the template has written them
  options.literal = literal;
  reader_.Bool("add_special_tokens", options.add_special_tokens);
  if (reader_.error()) return tl::unexpected(*reader_.error());
  auto tokens = context_.tokenizer.Encode(text.bytes(), options);
  if (!tokens) return tl::unexpected(InvalidRequest(tokens.error().message(), "messages"));
  if (tokens->empty()) {
    return tl::unexpected(
        InvalidRequest("the chat template makes an empty text of 'messages'", "messages"));
  }
  return *std::move(tokens);
}

ApiResult<ToolChoice> ChatReader::ReadChoice(const ChatInputs& inputs) {
  auto choice = ReadToolChoice(Field("tool_choice"), inputs.tools, chat_.options);
  if (choice && choice->forced &&
      (inputs.continue_final_message || !inputs.add_generation_prompt)) {
    return tl::unexpected(InvalidRequest(
        "'tool_choice' asks for a call, which needs a turn of its own: it is not allowed with "
        "'continue_final_message' or 'add_generation_prompt': false",
        "tool_choice"));
  }
  return choice;
}

AnswerReading ChatReader::ReadReading(const ChatPrompt& prompt, const ToolChoice& choice) {
  AnswerReading reading;
  if (choice.reads_calls) reading.tool_calls = chat_.options.tool_call_parser;
  bool parallel = true;
  reader_.Bool("parallel_tool_calls", parallel);
  reading.one_tool_call = !parallel || !choice.function.empty();
  reading.reasoning = chat_.options.reasoning_parser;
  const size_t end = prompt.text.find_last_not_of(" \n\t\r") + 1;
  const std::string_view written = std::string_view(prompt.text).substr(0, end);
  if (choice.forced) {
    reading.begun = BeginningOfCall(*reading.tool_calls, choice.function).bytes();
    reading.names_function = choice.named;
    if (written.ends_with("<think>")) {
      reader_.Refuse(
          "tool_choice",
          "asks for a call, but the chat template begins the answer with reasoning: turn that off "
          "(chat_template_kwargs), or leave the choice to the model ('auto')");
    }
  }
  if (!reading.reasoning) return reading;
  reading.starts_in_reasoning =
      written.ends_with("<think>") ||
      (*reading.reasoning == ReasoningParser::kDeepseekR1 && !written.ends_with("</think>"));
  return reading;
}

void ReadChatLogprobs(JsonReader& reader, CompletionCall& call, SamplingParams& sampling) {
  reader.Bool("logprobs", call.logprobs);
  int64_t top = 0;
  reader.Integer("top_logprobs", 0, kMaxLogprobs, top);
  if (top > 0 && !call.logprobs) reader.Refuse("top_logprobs", "needs 'logprobs': true");
  if (call.logprobs) sampling.num_logprobs = static_cast<uint32_t>(top);
}

std::optional<int64_t> ReadMaxCompletionTokens(JsonReader& reader) {
  std::optional<int64_t> max_tokens;
  for (const char* name : {"max_tokens", "max_completion_tokens"}) {  // the newer name wins
    if (reader.Find(name) == nullptr) continue;
    int64_t value = 1;
    reader.Integer(name, 1, kMaxTokensBound, value);
    max_tokens = value;
  }
  return max_tokens;
}

// What some clients always send, and what it may be.
void CheckFormats(const Json& json, JsonReader& reader) {
  const auto format = json.find("response_format");
  if (format != json.end() && !format->is_null() && *format != Json{{"type", "text"}}) {
    reader.Refuse("response_format", "must be {\"type\": \"text\"}: no other is supported");
  }
  const auto modalities = json.find("modalities");
  if (modalities != json.end() && !modalities->is_null() && *modalities != Json::array({"text"})) {
    reader.Refuse("modalities", "must be [\"text\"]: no other is supported");
  }
}

}  // namespace

ApiResult<ChatCall> ParseChat(std::string_view body, const ParseContext& context) {
  const auto json = ParseObject(body);
  if (!json) return tl::unexpected(json.error());
  ChatReader chat(body, *json, context);
  JsonReader& reader = chat.reader();
  ChatCall result;
  CompletionCall& call = result.completion;
  call.id = context.request_id;
  SamplingParams sampling;
  ReadModel(reader, context, call.model);
  CheckFieldNames(*json, kChatFieldsNotOffered, kChatFields, reader);
  CheckFormats(*json, reader);
  ReadCounts(reader, call);
  ReadStream(reader, call);
  ReadChatLogprobs(reader, call, sampling);
  ReadSampling(reader, context.info, sampling);
  ReadStopStrings(reader, call.text.stop_strings);
  const Extras extras = ReadExtras(reader, call);
  const auto max_tokens = ReadMaxCompletionTokens(reader);
  int64_t min_tokens = 0;
  reader.Integer("min_tokens", 0, max_tokens.value_or(context.info.max_model_len), min_tokens);
  sampling.min_tokens = static_cast<uint32_t>(min_tokens);
  call.text.min_tokens = sampling.min_tokens;
  if (reader.error()) return tl::unexpected(*reader.error());
  const auto inputs = chat.ReadInputs();
  if (!inputs) return tl::unexpected(inputs.error());
  const auto choice = chat.ReadChoice(*inputs);
  if (!choice) return tl::unexpected(choice.error());
  auto prompt = chat.Render(*inputs, chat.BeginningOf(*choice));
  if (!prompt) return tl::unexpected(prompt.error());
  result.reading = chat.ReadReading(*prompt, *choice);
  if (reader.error()) return tl::unexpected(*reader.error());
  // The marks of tool calls are special tokens in some models, and are then not shown.
  if (result.reading.tool_calls == ToolCallParser::kHermes &&
      reader.Find("skip_special_tokens") == nullptr) {
    call.text.skip_special_tokens = false;
  }
  call.prompts.push_back({{}, std::move(prompt->tokens)});
  call.stop_token_ids = sampling.stop_token_ids;
  const auto made =
      MakeRequests(context, extras, max_tokens, kChatLength, std::move(sampling), call);
  if (!made) return tl::unexpected(made.error());
  return result;
}

ApiResult<TokenizeCall> ParseTokenizeChat(std::string_view body, const ParseContext& context) {
  const auto json = ParseObject(body);
  if (!json) return tl::unexpected(json.error());
  ChatReader chat(body, *json, context);
  std::string model;
  TokenizeCall call;
  ReadModel(chat.reader(), context, model);
  chat.reader().Bool("return_token_strs", call.return_token_strs);
  const auto inputs = chat.ReadInputs();
  if (!inputs) return tl::unexpected(inputs.error());
  auto prompt = chat.Render(*inputs, Text());
  if (!prompt) return tl::unexpected(prompt.error());
  call.tokens = std::move(prompt->tokens);
  return call;
}

}  // namespace kvs
