// What the handlers of Routes answer.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "routes_fixture.h"

namespace kvs {
namespace {

using nlohmann::json;
using testing::RoutesTest;

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
  EXPECT_EQ(Ask("GET", "/server_info").body, context_.server_info());
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
