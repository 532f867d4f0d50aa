#include "doctor/cell_requests.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "support/canned_server.h"

namespace kvs {
namespace {

using testing::HasSubstr;
using testing::SizeIs;

constexpr char kAnswer[] =
    R"({"choices":[{"index":0,"text":" a b","logprobs":{"tokens":[" a"," b"],)"
    R"("token_logprobs":[-0.5,-1.25],"top_logprobs":[{" a":-0.5," c":-2.0},{" b":-1.25}],)"
    R"("text_offset":[0,2]},"finish_reason":"length"}],"usage":{"prompt_tokens":101,)"
    R"("completion_tokens":2,"total_tokens":103,"prompt_tokens_details":{"cached_tokens":96}}})";

std::vector<std::vector<uint32_t>> Texts(size_t number, uint32_t block_size) {
  std::vector<std::vector<uint32_t>> texts(number);
  for (size_t i = 0; i < number; ++i) {
    texts[i].resize(TokensPerText(block_size));
    std::iota(texts[i].begin(), texts[i].end(), static_cast<uint32_t>(1000 * i));
  }
  return texts;
}

TEST(CellRequests, EachTextIsSentColdRepeatedAndContinued) {
  for (const uint32_t block_size : {16u, 32u, 64u}) {
    const auto requests = MakeCellRequests(Texts(3, block_size), block_size);
    ASSERT_THAT(requests, SizeIs(9));
    for (size_t i = 0; i < requests.size(); i += 3) {
      const CellRequest &cold = requests[i], &again = requests[i + 1], &longer = requests[i + 2];
      EXPECT_EQ(cold.prompt, again.prompt);
      EXPECT_TRUE(std::equal(cold.prompt.begin(), cold.prompt.end(), longer.prompt.begin()));
      EXPECT_EQ(cold.reusable_tokens, 0u);
      for (const CellRequest* hit : {&again, &longer}) {
        // At least two blocks are found, and a few tokens are left that fill none.
        EXPECT_EQ(hit->reusable_tokens % block_size, 0u);
        EXPECT_GE(hit->reusable_tokens, 2 * block_size);
        EXPECT_GT(cold.prompt.size(), hit->reusable_tokens + 1);
        EXPECT_LE(hit->prompt.size() + hit->max_tokens, PositionsPerRequest(block_size));
      }
    }
    EXPECT_NE(requests[0].prompt, requests[3].prompt);
  }
}

TEST(CellRequests, AnAnswerIsReadWithItsLikelyTokens) {
  const auto answer = ParseCellAnswer(kAnswer);
  ASSERT_TRUE(answer) << answer.error().message();
  ASSERT_THAT(answer->tokens, SizeIs(2));
  EXPECT_EQ(answer->tokens[0].text, " a");
  EXPECT_DOUBLE_EQ(answer->tokens[0].logprob, -0.5);
  EXPECT_DOUBLE_EQ(answer->tokens[0].top.at(" c"), -2.0);
  EXPECT_EQ(answer->prompt_tokens, 101u);
  EXPECT_EQ(answer->cached_tokens, 96u);
}

TEST(CellRequests, WhatIsNoSuchAnswerIsAnError) {
  for (const char* body :
       {"", "[]", "{}", R"({"choices":[{"logprobs":null}],"usage":{}})", "not JSON"}) {
    const auto answer = ParseCellAnswer(body);
    ASSERT_FALSE(answer) << body;
    EXPECT_EQ(answer.error().code(), Code::kDataError);
  }
}

// Counts hits as the answers above say it.
class FakeServer {
 public:
  explicit FakeServer(int fail_at)
      : fail_at_(fail_at),
        server_([this](const CannedRequest& request) { return Answer(request); }) {}

  Url url() const { return *ParseUrl(server_.url()); }
  int num_completions() const { return num_completions_; }

 private:
  std::vector<std::string> Answer(const CannedRequest& request) {
    if (request.head.find("/metrics") != std::string::npos) {
      return {CannedResponse(200,
                             "vllm:prefix_cache_queries_total 1000\nvllm:prefix_cache_hits_total " +
                                 std::to_string(96 * num_completions_.load()) + "\n")};
    }
    const int index = num_completions_++;
    if (index == fail_at_) {
      return {CannedResponse(500, R"({"error":{"message":"no step"}})")};
    }
    return {CannedResponse(200, kAnswer)};
  }

  const int fail_at_;
  std::atomic<int> num_completions_{0};
  CannedServer server_;
};

TEST(CellRequests, AllAreSentAndTheCounterIsReadBetweenThem) {
  FakeServer server(-1);
  CellProgress progress;
  const auto all = SendCellRequests(server.url(), MakeCellRequests(Texts(2, 16), 16), progress);
  EXPECT_FALSE(all.error);
  ASSERT_THAT(all.answers, SizeIs(6));
  EXPECT_EQ(all.answers[0].name, "text 1, cold");
  for (const CellAnswer& answer : all.answers) EXPECT_EQ(answer.hit_growth, 96u);
  ASSERT_THAT(all.at_once, SizeIs(2));
  EXPECT_EQ(all.at_once[0].name, "text 1, continued");
  EXPECT_EQ(all.at_once[1].name, "text 2, continued");
  EXPECT_EQ(server.num_completions(), 8);
  EXPECT_EQ(progress.request, 6u);
}

TEST(CellRequests, TheFirstErrorEndsIt) {
  FakeServer server(1);
  CellProgress progress;
  const auto all = SendCellRequests(server.url(), MakeCellRequests(Texts(2, 16), 16), progress);
  ASSERT_TRUE(all.error);
  EXPECT_THAT(all.error->message(), HasSubstr("no step"));
  EXPECT_THAT(all.answers, SizeIs(1));
  EXPECT_EQ(server.num_completions(), 2);
  EXPECT_EQ(progress.request, 1u);
}

}  // namespace
}  // namespace kvs
