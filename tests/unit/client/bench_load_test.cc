#include "client/bench_load.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <nlohmann/json.hpp>
#include <thread>

#include "support/canned_server.h"

namespace kvs {
namespace {

using std::chrono::milliseconds;

// Answers with the prompt as text after a while, and knows how many requests it had at once.
class EchoServer {
 public:
  explicit EchoServer(milliseconds delay)
      : server_([this, delay](const CannedRequest& request) {
          const int now = ++in_flight_;
          int most = most_in_flight_.load();
          while (most < now && !most_in_flight_.compare_exchange_weak(most, now)) {
          }
          std::this_thread::sleep_for(delay);
          --in_flight_;
          const auto prompt = nlohmann::json::parse(request.body)["prompt"];
          if (prompt == "refuse") return std::vector<std::string>{CannedResponse(503, "{}")};
          const nlohmann::json event = {{"choices", {{{"text", prompt}}}}};
          return CannedStream({event.dump(), "[DONE]"});
        }) {}

  BenchTarget Target(uint32_t concurrency) const {
    return {*ParseUrl(server_.url()), "", concurrency};
  }
  int most_in_flight() const { return most_in_flight_; }

 private:
  std::atomic<int> in_flight_{0};
  std::atomic<int> most_in_flight_{0};
  CannedServer server_;
};

BenchWorkload NumberedPrompts(size_t count) {
  BenchWorkload workload;
  for (size_t i = 0; i < count; ++i) {
    CompletionAsk ask;
    ask.prompt = PromptText{std::to_string(i)};
    workload.asks.push_back(ask);
  }
  return workload;
}

TEST(BenchLoad, ClosedLoopKeepsToItsConcurrency) {
  EchoServer server(milliseconds(20));
  const BenchWorkload workload = NumberedPrompts(20);
  std::vector<size_t> progress;
  const BenchRun run = RunWorkload(server.Target(4), workload,
                                   [&](size_t done, size_t) { progress.push_back(done); });
  ASSERT_EQ(run.outcomes.size(), 20u);
  for (size_t i = 0; i < run.outcomes.size(); ++i) {
    ASSERT_TRUE(run.outcomes[i]) << run.outcomes[i].error().status.message();
    EXPECT_EQ(run.outcomes[i]->text, std::to_string(i));
  }
  EXPECT_EQ(server.most_in_flight(), 4);
  EXPECT_GE(run.wall_s, 5 * 0.020);
  EXPECT_TRUE(std::is_sorted(progress.begin(), progress.end()));
  EXPECT_EQ(progress.back(), 20u);
}

TEST(BenchLoad, OpenLoopDoesNotWaitForAnswers) {
  EchoServer server(milliseconds(300));
  BenchWorkload workload = NumberedPrompts(10);
  for (int i = 0; i < 10; ++i) workload.start_s.push_back(0.010 * i);
  const BenchRun run = RunWorkload(server.Target(1), workload, [](size_t, size_t) {});
  for (const BenchOutcome& outcome : run.outcomes) EXPECT_TRUE(outcome);
  EXPECT_GT(server.most_in_flight(), 1);
  EXPECT_GE(run.wall_s, 0.090 + 0.300);
  EXPECT_LT(run.wall_s, 10 * 0.300);
}

TEST(BenchLoad, FailuresStandWhereTheyHappened) {
  EchoServer server(milliseconds(1));
  BenchWorkload workload = NumberedPrompts(5);
  workload.asks[3].prompt = PromptText{"refuse"};
  size_t last_failed = 0;
  const BenchRun run =
      RunWorkload(server.Target(2), workload, [&](size_t, size_t failed) { last_failed = failed; });
  EXPECT_EQ(last_failed, 1u);
  for (size_t i = 0; i < 5; ++i) EXPECT_EQ(run.outcomes[i].has_value(), i != 3);
  EXPECT_EQ(run.outcomes[3].error().kind, "http 503");
}

TEST(BenchLoad, FewerRequestsThanConcurrencyIsFine) {
  EchoServer server(milliseconds(1));
  const BenchRun run = RunWorkload(server.Target(64), NumberedPrompts(2), [](size_t, size_t) {});
  EXPECT_TRUE(run.outcomes[0] && run.outcomes[1]);
}

}  // namespace
}  // namespace kvs
