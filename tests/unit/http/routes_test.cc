#include "http/routes.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "chat_template_of.h"
#include "routes_fixture.h"

namespace kvs {
namespace {

using nlohmann::json;
using testing::ChatTemplateOf;
using testing::RoutesTest;

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

TEST_F(RoutesTest, UnknownPathNamesTheKnownOnes) {
  const HttpResponse response = Ask("POST", "/v1/responses");
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
  context_.chat.chat_template = ChatTemplateOf("{{ messages[0].content }}");
  const auto ask = [this](const Routes::Route& route, const HttpHeaders& headers) {
    const std::string method =
        std::string(route.methods).substr(0, route.methods[0] == 'G' ? 3 : 4);
    std::string path = route.path;
    if (path.back() == '/') path += "tiny";
    return Ask(method, path,
               R"({"prompt":"a","tokens":[1],"messages":[{"role":"user","content":"a"}]})", headers)
        .status;
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

}  // namespace
}  // namespace kvs
