// The handlers of Routes.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <memory>

#include "http/api_error.h"
#include "http/chat_format.h"
#include "http/chat_parse.h"
#include "http/completions.h"
#include "http/json_text.h"
#include "http/openai_format.h"
#include "http/routes.h"

namespace kvs {
namespace {

HttpResponse JsonResponse(std::string body) {
  HttpResponse response;
  response.body = std::move(body);
  return response;
}

}  // namespace

HttpResponse Routes::Health(const HttpRequest&) {
  if (engine_alive()) return JsonResponse(R"({"status":"ok"})");
  return ToResponse(Overloaded(fmt::format("the engine has finished no step for {:.0f} s",
                                           engine_.SecondsSinceHeartbeat())));
}

HttpResponse Routes::Readiness(const HttpRequest& request) {
  if (draining_.load() || !engine_.accepting()) {
    return ToResponse(Overloaded("the server is shutting down"));
  }
  return Health(request);
}

HttpResponse Routes::Version(const HttpRequest&) {
  std::string body = R"({"version":)";
  AppendJsonString(context_.version, body);
  return JsonResponse(body + "}");
}

HttpResponse Routes::Metrics(const HttpRequest&) {
  HttpResponse response = JsonResponse(metrics_.Serialize());
  response.content_type = "text/plain; version=0.0.4; charset=utf-8";
  return response;
}

HttpResponse Routes::ServerInfo(const HttpRequest&) { return JsonResponse(context_.server_info()); }

std::string Routes::ModelJson(const std::string& name) const {
  std::string json = R"({"id":)";
  AppendJsonString(name, json);
  json += fmt::format(R"(,"object":"model","created":{},"owned_by":"kvserve","root":)", started_);
  AppendJsonString(context_.model_root, json);
  json += fmt::format(R"(,"parent":null,"max_model_len":{},"permission":[]}})",
                      engine_.info().max_model_len);
  return json;
}

HttpResponse Routes::Models(const HttpRequest&) {
  std::string list;
  for (const std::string& name : context_.served_model_names) {
    if (!list.empty()) list += ',';
    list += ModelJson(name);
  }
  return JsonResponse(R"({"object":"list","data":[)" + list + "]}");
}

HttpResponse Routes::OneModel(const HttpRequest& request) {
  const std::string name = request.path.substr(std::string_view("/v1/models/").size());
  const auto& served = context_.served_model_names;
  if (std::find(served.begin(), served.end(), name) != served.end()) {
    return JsonResponse(ModelJson(name));
  }
  return ToResponse(ModelNotFound(name, served.front()));
}

ParseContext Routes::ParseContextOf(const HttpRequest& request) {
  ParseContext context{
      tokenizer_, engine_.info(), context_.served_model_names, {}, request.id, request.arrival, {}};
  context.chat = &context_.chat;
  if (keys_.enabled()) context.api_key_digest = *keys_.Check(request.FindHeader("authorization"));
  context.draw_seed = [this] { return DrawSeed(); };
  return context;
}

HttpResponse Routes::Completions(const HttpRequest& request) {
  auto call = ParseCompletion(request.body, ParseContextOf(request));
  if (!call) return ToResponse(call.error());
  for (Request& asked : call->requests) asked.id = {num_requests_.fetch_add(1) + 1};
  params_n_.Observe(call->n);
  const AnswerHead head{"cmpl-" + call->id, call->model, "kvserve-" + context_.version,
                        UnixSeconds()};
  auto format = std::make_unique<CompletionFormat>(
      head, call->include_usage || call->continuous_usage, tokenizer_);
  return AnswerCompletion(*std::move(call), std::move(format), tokenizer_, engine_, request);
}

HttpResponse Routes::ChatCompletions(const HttpRequest& request) {
  auto call = ParseChat(request.body, ParseContextOf(request));
  if (!call) return ToResponse(call.error());
  CompletionCall& completion = call->completion;
  for (Request& asked : completion.requests) asked.id = {num_requests_.fetch_add(1) + 1};
  params_n_.Observe(completion.n);
  const AnswerHead head{"chatcmpl-" + completion.id, completion.model,
                        "kvserve-" + context_.version, UnixSeconds()};
  auto format = std::make_unique<ChatFormat>(
      head, call->reading, completion.include_usage || completion.continuous_usage, tokenizer_);
  return AnswerCompletion(std::move(completion), std::move(format), tokenizer_, engine_, request);
}

HttpResponse Routes::Tokenize(const HttpRequest& request) {
  const auto call = ParseTokenize(request.body, ParseContextOf(request));
  if (!call) return ToResponse(call.error());
  std::string ids;
  std::string texts;
  for (const TokenId token : call->tokens) {
    if (!ids.empty()) ids += ',';
    ids += std::to_string(token.value);
    if (!call->return_token_strs) continue;
    if (!texts.empty()) texts += ',';
    AppendJsonString(tokenizer_.TokenText(token), texts);
  }
  return JsonResponse(fmt::format(
      R"({{"count":{},"max_model_len":{},"tokens":[{}],"token_strs":{}}})", call->tokens.size(),
      engine_.info().max_model_len, ids, call->return_token_strs ? "[" + texts + "]" : "null"));
}

HttpResponse Routes::Detokenize(const HttpRequest& request) {
  const auto tokens = ParseDetokenize(request.body, ParseContextOf(request));
  if (!tokens) return ToResponse(tokens.error());
  std::string body = R"({"prompt":)";
  AppendJsonString(tokenizer_.Decode(*tokens, /*skip_special=*/false), body);
  return JsonResponse(body + "}");
}

HttpResponse Routes::ResetPrefixCache(const HttpRequest&) {
  const auto reset = engine_.ResetPrefixCache();
  if (!reset) return ToResponse(FromStatus(reset.error()));
  if (reset->success) return JsonResponse(R"({"success":true})");
  HttpResponse response = JsonResponse(
      fmt::format(R"({{"success":false,"num_blocks_in_use":{}}})", reset->num_blocks_in_use));
  response.status = 409;
  return response;
}

}  // namespace kvs
