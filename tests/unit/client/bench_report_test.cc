#include "client/bench_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace kvs {
namespace {

using testing::HasSubstr;

Completion Completed(double first, std::vector<double> gaps, std::optional<uint32_t> cached) {
  Completion completion;
  completion.first_token_s = first;
  completion.total_s = first;
  for (const double gap : gaps) completion.total_s += gap;
  completion.usage = Usage{100, static_cast<uint32_t>(gaps.size() + 1), cached};
  completion.gaps_s = std::move(gaps);
  return completion;
}

TEST(BenchReport, FiguresAreOfSuccessfulRequests) {
  BenchRun run;
  run.wall_s = 2.0;
  run.outcomes.emplace_back(Completed(0.1, {0.01, 0.03}, 0));
  run.outcomes.emplace_back(Completed(0.3, {0.02}, 64));
  run.outcomes.emplace_back(
      tl::unexpected(CompletionFailure{"http 503", Status(Code::kUnavailable, "first")}));
  run.outcomes.emplace_back(
      tl::unexpected(CompletionFailure{"http 503", Status(Code::kUnavailable, "second")}));
  run.outcomes.emplace_back(
      tl::unexpected(CompletionFailure{"stream", Status(Code::kUnavailable, "cut")}));
  const BenchFigures figures = FiguresOf(run);
  EXPECT_EQ(figures.completed, 2u);
  EXPECT_EQ(figures.prompt_tokens, 200u);
  EXPECT_EQ(figures.output_tokens, 5u);
  EXPECT_EQ(figures.cached_tokens, 64u);
  EXPECT_DOUBLE_EQ(figures.ttft_s.mean, 0.2);
  EXPECT_EQ(figures.inter_token_s.count, 3u);
  EXPECT_DOUBLE_EQ(figures.inter_token_s.p50, 0.02);
  EXPECT_DOUBLE_EQ(figures.total_s.max, 0.32);
  EXPECT_EQ(figures.errors.at("http 503").count, 2u);
  EXPECT_EQ(figures.errors.at("http 503").example, "first");
  EXPECT_EQ(figures.errors.at("stream").count, 1u);

  BenchWorkload workload;
  workload.model = "m";
  workload.asks.resize(5);
  const auto json = nlohmann::json::parse(BenchJson({}, workload, figures));
  EXPECT_DOUBLE_EQ(json["request_throughput"], 1.0);
  EXPECT_DOUBLE_EQ(json["output_throughput"], 2.5);
  EXPECT_DOUBLE_EQ(json["prefix_cache_hit_rate"], 0.32);
  EXPECT_NEAR(json["time_to_first_token_ms"]["p50"], 200.0, 1e-9);
  EXPECT_THAT(BenchText({}, workload, figures), HasSubstr("2 of 5 requests completed in 2.00 s"));
  EXPECT_THAT(BenchText({}, workload, figures), HasSubstr("32.0 % (64 of 200 prompt tokens)"));
  EXPECT_THAT(BenchText({}, workload, figures), HasSubstr("errors: 2 x http 503: first"));
}

TEST(BenchReport, SaysWhenHitsAreUnknown) {
  BenchRun run;
  run.wall_s = 1.0;
  run.outcomes.emplace_back(Completed(0.1, {}, std::nullopt));
  BenchWorkload workload;
  workload.asks.resize(1);
  const BenchFigures figures = FiguresOf(run);
  const auto json = nlohmann::json::parse(BenchJson({}, workload, figures));
  EXPECT_TRUE(json["prefix_cache_hit_rate"].is_null());
  EXPECT_THAT(BenchText({}, workload, figures), HasSubstr("not reported"));
}

TEST(BenchReport, NothingCompletedIsAllZero) {
  BenchRun run;
  run.outcomes.emplace_back(
      tl::unexpected(CompletionFailure{"transport", Status(Code::kUnavailable, "refused")}));
  BenchWorkload workload;
  workload.asks.resize(1);
  const auto json = nlohmann::json::parse(BenchJson({}, workload, FiguresOf(run)));
  EXPECT_EQ(json["completed"], 0);
  EXPECT_EQ(json["output_throughput"], 0.0);
  EXPECT_EQ(json["time_to_first_token_ms"]["p99"], 0.0);
}

}  // namespace
}  // namespace kvs
