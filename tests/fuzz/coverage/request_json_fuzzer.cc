// The input is the body of a request: read as each of the routes that take JSON reads it. What is
// accepted must keep the bounds that the engine relies on.
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "http/chat_parse.h"
#include "http/chat_settings.h"
#include "http/json_reader.h"
#include "http/json_text.h"
#include "http/openai_parse.h"
#include "kvserve/check.h"
#include "scratch_dir.h"
#include "tokenize/tokenizer.h"
#include "tokenize/utf8.h"

namespace {

// A token for each byte, by GPT-2's names, and one special one.
std::string TokenizerJson() {
  std::string vocab;
  uint32_t renamed = 256;
  for (uint32_t byte = 0; byte < 256; ++byte) {
    const bool shown = (byte > 32 && byte < 127) || (byte > 160 && byte != 173);
    std::string name;
    kvs::AppendUtf8(shown ? byte : renamed++, name);
    if (byte > 0) vocab += ',';
    kvs::AppendJsonString(name, vocab);
    vocab += ':' + std::to_string(byte);
  }
  return R"({"model":{"type":"BPE","merges":[],"vocab":{)" + vocab +
         R"(}},"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false,"use_regex":true},)" +
         R"("decoder":{"type":"ByteLevel"},"added_tokens":[{"id":256,"content":"<s>",)" +
         R"("special":true}]})";
}

constexpr std::string_view kConfig =
    R"({"bos_token":"<s>","chat_template":"{{ bos_token }}{% for m in messages %}{{ m.role }}: )"
    R"({{ m.content }}{{ m.tool_calls | tojson if m.tool_calls }}{% endfor %})"
    R"({{ tools | tojson if tools }}{{ enable_thinking }}"})";

// What a server has; made once.
struct Server {
  Server() {
    const std::string json = TokenizerJson();
    scratch.Write("tokenizer.json", reinterpret_cast<const uint8_t*>(json.data()), json.size());
    scratch.Write("tokenizer_config.json", reinterpret_cast<const uint8_t*>(kConfig.data()),
                  kConfig.size());
    auto loaded = kvs::Tokenizer::Load(scratch.path());
    KVS_CHECK(loaded.has_value());
    tokenizer = *std::move(loaded);
    auto chat_template = kvs::ChatTemplate::Load(scratch.path(), {});
    KVS_CHECK(chat_template.has_value());
    chat.chat_template = *std::move(chat_template);
    chat.options.enable_auto_tool_choice = true;
    chat.options.tool_call_parser = kvs::ToolCallParser::kHermes;
    chat.options.reasoning_parser = kvs::ReasoningParser::kQwen3;
    info.max_model_len = 4096;
    info.vocab_size = tokenizer->vocab_size();
    info.kv_pool_tokens = 4096;
  }

  kvs::ScratchDir scratch;
  std::unique_ptr<kvs::Tokenizer> tokenizer;
  kvs::ChatSettings chat;
  kvs::EngineInfo info;
  std::vector<std::string> names = {"m"};
};

void CheckTokens(const std::vector<kvs::TokenId>& tokens, const kvs::EngineInfo& info) {
  for (const kvs::TokenId token : tokens) KVS_CHECK_OP(token.value, <, info.vocab_size);
}

void Check(const kvs::CompletionCall& call, const kvs::EngineInfo& info) {
  KVS_CHECK_OP(call.requests.size(), ==, call.prompts.size() * call.n);
  KVS_CHECK_OP(call.requests.size(), <=, size_t{kvs::kMaxChoices});
  for (const kvs::Request& request : call.requests) {
    KVS_CHECK(!request.prompt.empty());
    CheckTokens(request.prompt, info);
    CheckTokens(request.sampling.stop_token_ids, info);
    KVS_CHECK_OP(request.prompt.size() + request.sampling.max_tokens, <=,
                 size_t{info.max_model_len});
    KVS_CHECK_OP(request.sampling.min_tokens, <=, request.sampling.max_tokens);
  }
}

// Whatever is wrong with a body is the client's mistake, in words that are not the whole body.
void Check(const kvs::ApiError& error) {
  KVS_CHECK(error.status == 400 || error.status == 404);
  KVS_CHECK(!error.message.empty());
  KVS_CHECK_OP(error.message.size(), <, size_t{2000});
  const std::string json = ToJson(error);
  KVS_CHECK(!kvs::FindInvalidUtf8(json));
  KVS_CHECK(kvs::ParseJson(json).has_value());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const Server server;
  const std::string_view body(reinterpret_cast<const char*>(data), size);
  const kvs::ParseContext context{
      *server.tokenizer,          server.info, server.names, "", "id", {},
      [] { return uint64_t{1}; }, &server.chat};
  if (const auto call = kvs::ParseCompletion(body, context)) {
    Check(*call, server.info);
  } else {
    Check(call.error());
  }
  if (const auto call = kvs::ParseChat(body, context)) {
    Check(call->completion, server.info);
  } else {
    Check(call.error());
  }
  if (const auto call = kvs::ParseTokenize(body, context)) {
    CheckTokens(call->tokens, server.info);
  } else {
    Check(call.error());
  }
  if (const auto tokens = kvs::ParseDetokenize(body, context)) {
    CheckTokens(*tokens, server.info);
  } else {
    Check(tokens.error());
  }
  return 0;
}
