#include "http/routes.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "fake_engine.h"
#include "fake_tokenizer.h"

namespace kvs {
namespace {

using nlohmann::json;
using testing::FakeEngine;
using testing::FakeTokenizer;

class RoutesTest : public ::testing::Test {
 protected:
  RoutesTest() {
    context_.served_model_names = {"tiny", "org/tiny"};
    context_.model_root = "/models/tiny";
    context_.version = "1.2.3";
    context_.server_info_json = R"({"kv_cache_dtype":"fp8_e4m3"})";
  }

  Routes& routes() {
    if (!routes_) routes_.emplace(context_, tokenizer_, engine_, metrics_);
    return *routes_;
  }
  HttpResponse Ask(const std::string& method, const std::string& path, const std::string& body = {},
                   HttpHeaders headers = {}) {
    HttpRequest request;
    request.method = method;
    request.path = path;
    request.headers = std::move(headers);
    request.body = body;
    request.over_limit = over_limit_;
    auto response = routes().CheckHead(request);
    if (!response) response = routes().Handle(request);
    routes().Answered(request, *response, true);
    return *std::move(response);
  }
  static std::string HeaderOf(const HttpResponse& response, const std::string& name) {
    for (const auto& [key, value] : response.headers) {
      if (key == name) return value;
    }
    return {};
  }

  ServerContext context_;
  FakeTokenizer tokenizer_;
  FakeEngine engine_;
  MetricsRegistry metrics_;
  std::optional<Routes> routes_;
  bool over_limit_ = false;
};

TEST_F(RoutesTest, Models) {
  const json list = json::parse(Ask("GET", "/v1/models").body);
  EXPECT_EQ(list["object"], "list");
  ASSERT_EQ(list["data"].size(), 2u);
  EXPECT_EQ(list["data"][1]["id"], "org/tiny");
  EXPECT_EQ(list["data"][0]["root"], "/models/tiny");
  EXPECT_EQ(list["data"][0]["max_model_len"], 256);
  EXPECT_EQ(json::parse(Ask("GET", "/v1/models/org/tiny").body)["id"], "org/tiny");
  const HttpResponse unknown = Ask("GET", "/v1/models/huge");
  EXPECT_EQ(unknown.status, 404);
  EXPECT_EQ(json::parse(unknown.body)["error"]["code"], "model_not_found");
}

TEST_F(RoutesTest, TokenizeAndBack) {
  const json tokens =
      json::parse(Ask("POST", "/tokenize", R"({"prompt":"hi","return_token_strs":true})").body);
  EXPECT_EQ(tokens, json::parse(R"({"count":3,"max_model_len":256,"tokens":[256,104,105],
                                    "token_strs":["<bos>","h","i"]})"));
  EXPECT_TRUE(
      json::parse(Ask("POST", "/tokenize", R"({"prompt":"hi"})").body)["token_strs"].is_null());
  EXPECT_EQ(json::parse(Ask("POST", "/detokenize", R"({"tokens":[256,104,105]})").body),
            json::parse(R"({"prompt":"<bos>hi"})"));
  EXPECT_EQ(Ask("POST", "/tokenize", "{}").status, 400);
  EXPECT_EQ(Ask("POST", "/detokenize", "{}").status, 400);
}

TEST_F(RoutesTest, HealthFollowsTheHeartbeat) {
  for (const char* path : {"/health", "/livez", "/readyz", "/ping"}) {
    engine_.heartbeat = 29;
    EXPECT_EQ(Ask("GET", path).status, 200) << path;
    EXPECT_EQ(Ask("HEAD", path).status, 200) << path;
    engine_.heartbeat = 31;
    EXPECT_EQ(Ask("GET", path).status, 503) << path;
  }
}

TEST_F(RoutesTest, DrainRefusesNewGenerationsOnly) {
  EXPECT_EQ(Ask("GET", "/readyz").status, 200);
  routes().BeginDrain();
  EXPECT_EQ(Ask("GET", "/readyz").status, 503);
  const HttpResponse refused = Ask("POST", "/v1/completions", R"({"prompt":"x"})");
  EXPECT_EQ(refused.status, 503);
  EXPECT_EQ(HeaderOf(refused, "Retry-After"), "1");
  EXPECT_EQ(Ask("GET", "/livez").status, 200);
  EXPECT_EQ(Ask("GET", "/v1/models").status, 200);
}

TEST_F(RoutesTest, NotReadyOnceTheEngineStops) {
  engine_.full = true;
  EXPECT_EQ(Ask("GET", "/readyz").status, 503);
  EXPECT_EQ(Ask("GET", "/health").status, 200);
}

TEST_F(RoutesTest, ResetPrefixCacheIsHonest) {
  EXPECT_EQ(Ask("POST", "/reset_prefix_cache").body, R"({"success":true})");
  engine_.reset = {false, 7};
  const HttpResponse busy = Ask("POST", "/reset_prefix_cache");
  EXPECT_EQ(busy.status, 409);
  EXPECT_EQ(json::parse(busy.body), json::parse(R"({"success":false,"num_blocks_in_use":7})"));
}

TEST_F(RoutesTest, PlainAnswers) {
  EXPECT_EQ(Ask("GET", "/version").body, R"({"version":"1.2.3"})");
  EXPECT_EQ(Ask("GET", "/server_info").body, context_.server_info_json);
}

TEST_F(RoutesTest, UnknownPathNamesTheKnownOnes) {
  const HttpResponse response = Ask("POST", "/v1/chat/completions");
  EXPECT_EQ(response.status, 404);
  const json error = json::parse(response.body)["error"];
  EXPECT_EQ(error["type"], "not_found_error");
  EXPECT_NE(error["message"].get<std::string>().find("POST /v1/completions"), std::string::npos);
}

TEST_F(RoutesTest, WrongVerbIs405WithAllow) {
  for (const char* method : {"GET", "PUT", "DELETE", "OPTIONS", "PATCH"}) {
    const HttpResponse response = Ask(method, "/v1/completions");
    EXPECT_EQ(response.status, 405) << method;
    EXPECT_EQ(HeaderOf(response, "Allow"), "POST");
  }
  EXPECT_EQ(HeaderOf(Ask("PUT", "/ping"), "Allow"), "GET, POST");
}

TEST_F(RoutesTest, EveryRouteButHealthNeedsTheKey) {
  context_.options.api_keys = {"first key", "second"};
  const auto ask = [this](const Routes::Route& route, const HttpHeaders& headers) {
    const std::string method =
        std::string(route.methods).substr(0, route.methods[0] == 'G' ? 3 : 4);
    std::string path = route.path;
    if (path.back() == '/') path += "tiny";
    return Ask(method, path, R"({"prompt":"a","tokens":[1]})", headers).status;
  };
  int num_open = 0;
  for (const Routes::Route& route : Routes::Table()) {
    const bool open = route.path == std::string("/health") || route.path == std::string("/livez") ||
                      route.path == std::string("/readyz");
    num_open += open;
    const int refused = open ? 200 : 401;
    EXPECT_EQ(ask(route, {}), refused) << route.path;
    for (const char* wrong : {"", "Bearer", "Bearer ", "Bearer first", "Bearer first keys",
                              "Basic first key", "first key", "Bearer FIRST KEY"}) {
      EXPECT_EQ(ask(route, {{"authorization", wrong}}), refused) << route.path << " " << wrong;
    }
    EXPECT_EQ(ask(route, {{"authorization", "Bearer first key"}}), 200) << route.path;
    EXPECT_EQ(ask(route, {{"authorization", "bearer second"}}), 200) << route.path;
  }
  EXPECT_EQ(num_open, 3);
  EXPECT_EQ(Ask("GET", "/nowhere").status, 401);
}

TEST_F(RoutesTest, KeysSeparateTheCache) {
  context_.options.api_keys = {"a", "b"};
  for (const char* key : {"Bearer a", "Bearer b", "Bearer a"}) {
    EXPECT_EQ(Ask("POST", "/v1/completions", R"({"prompt":"x"})", {{"authorization", key}}).status,
              200);
  }
  const auto seen = engine_.seen();
  ASSERT_EQ(seen.size(), 3u);
  EXPECT_FALSE(seen[0].cache_scope.empty());
  EXPECT_NE(seen[0].cache_scope, seen[1].cache_scope);
  EXPECT_EQ(seen[0].cache_scope, seen[2].cache_scope);
  EXPECT_EQ(seen[0].cache_scope.find('a'), std::string::npos) << "the key itself is not kept";
}

TEST_F(RoutesTest, RequestIdIsEchoedOrMade) {
  EXPECT_EQ(HeaderOf(Ask("GET", "/health", "", {{"x-request-id", "abc-1"}}), "X-Request-Id"),
            "abc-1");
  for (const std::string& bad : {std::string(), std::string("a b"), std::string(129, 'a')}) {
    const std::string made =
        HeaderOf(Ask("GET", "/health", "", {{"x-request-id", bad}}), "X-Request-Id");
    EXPECT_EQ(made.size(), 32u) << bad;
  }
  Ask("POST", "/v1/completions", R"({"prompt":"x"})", {{"x-request-id", "abc-2"}});
  EXPECT_EQ(engine_.seen().back().external_id, "abc-2");
  EXPECT_EQ(HeaderOf(Ask("GET", "/nowhere", "", {{"x-request-id", "abc-3"}}), "X-Request-Id"),
            "abc-3");
}

TEST_F(RoutesTest, OverTheConnectionLimitOnlyHealthIsAnswered) {
  over_limit_ = true;
  EXPECT_EQ(Ask("GET", "/health").status, 200);
  EXPECT_EQ(Ask("GET", "/readyz").status, 200);
  const HttpResponse refused = Ask("GET", "/v1/models");
  EXPECT_EQ(refused.status, 503);
  EXPECT_EQ(HeaderOf(refused, "Retry-After"), "1");
}

TEST_F(RoutesTest, CountsRequestsByRouteAndStatus) {
  Ask("GET", "/v1/models/tiny");
  Ask("GET", "/v1/models/huge");
  Ask("GET", "/nowhere");
  Ask("POST", "/v1/completions", R"({"prompt":"x","n":2})");
  const std::string text = Ask("GET", "/metrics").body;
  for (const char* line :
       {R"(kvserve_http_requests_total{route="/v1/models/",status="200"} 1)",
        R"(kvserve_http_requests_total{route="/v1/models/",status="404"} 1)",
        R"(kvserve_http_requests_total{route="other",status="404"} 1)",
        R"(vllm:request_params_n_bucket{le="1"} 0)", R"(vllm:request_params_n_bucket{le="2"} 1)"}) {
    EXPECT_NE(text.find(line), std::string::npos) << line << "\n" << text;
  }
}

TEST_F(RoutesTest, SeedsDifferButComeFromTheServersSeed) {
  const auto draw = [this](uint64_t seed) {
    context_.request_seed = seed;
    routes_.emplace(context_, tokenizer_, engine_, metrics_);
    Ask("POST", "/v1/completions", R"({"prompt":["x","y"]})");
    const auto seen = engine_.seen();
    EXPECT_NE(seen[seen.size() - 1].sampling.seed, seen[seen.size() - 2].sampling.seed);
    return seen.back().sampling.seed;
  };
  const uint64_t first = draw(1);
  EXPECT_EQ(draw(1), first);
  EXPECT_NE(draw(2), first);
}

}  // namespace
}  // namespace kvs
