#include "sample/sequence_sampler.h"

#include <gtest/gtest.h>

#include <map>

namespace kvs {
namespace {

constexpr uint32_t kVocabSize = 100;
const std::vector<TokenId> kEos = {TokenId{2}, TokenId{3}};

Request MakeRequest(std::vector<TokenId> prompt = {TokenId{5}, TokenId{9}, TokenId{5}}) {
  Request request;
  request.prompt = std::move(prompt);
  request.sampling.max_tokens = 8;
  return request;
}

std::map<uint32_t, uint32_t> CountsOf(const SampleRow& row) {
  std::map<uint32_t, uint32_t> counts;
  for (uint32_t i = 0; i < row.num_counts; ++i) {
    EXPECT_TRUE(counts.emplace(row.counts[i].token.value, row.counts[i].output_count).second);
  }
  return counts;
}

TEST(SequenceSampler, RowCarriesTheParameters) {
  Request request = MakeRequest();
  SamplingParams& params = request.sampling;
  params.temperature = 0.7f;
  params.top_k = 11;
  params.top_p = 0.9f;
  params.min_p = 0.1f;
  params.presence_penalty = 0.5f;
  params.frequency_penalty = -0.5f;
  params.repetition_penalty = 1.2f;
  params.seed = 99;
  params.num_logprobs = 3;
  params.logit_bias = {{TokenId{1}, 2.5f}, {TokenId{4}, -100.0f}};
  const SequenceSampler sampler(request, kEos, kVocabSize);
  const SampleRow row = sampler.DrawRow(6, 0);
  EXPECT_EQ(row.logits_row, 6u);
  EXPECT_EQ(row.temperature, 0.7f);
  EXPECT_EQ(row.top_k, 11);
  EXPECT_EQ(row.top_p, 0.9f);
  EXPECT_EQ(row.min_p, 0.1f);
  EXPECT_EQ(row.presence_penalty, 0.5f);
  EXPECT_EQ(row.frequency_penalty, -0.5f);
  EXPECT_EQ(row.repetition_penalty, 1.2f);
  EXPECT_EQ(row.num_logprobs, 3);
  EXPECT_TRUE(row.draw);
  ASSERT_EQ(row.num_biases, 2u);
  EXPECT_EQ(row.biases[1].token, TokenId{4});
  EXPECT_EQ(row.biases[1].bias, -100.0f);
  EXPECT_EQ(row.uniform, sampler.DrawRow(0, 0).uniform);  // not of the batch
  EXPECT_NE(row.uniform, sampler.DrawRow(6, 1).uniform);  // of the position
}

TEST(SequenceSampler, CountsNothingWithoutPenalties) {
  const Request request = MakeRequest();
  SequenceSampler sampler(request, kEos, kVocabSize);
  sampler.CountOutput(TokenId{7});
  EXPECT_EQ(sampler.DrawRow(0, 1).num_counts, 0u);
}

TEST(SequenceSampler, RepetitionCountsPromptAndOutput) {
  Request request = MakeRequest();
  request.sampling.repetition_penalty = 1.1f;
  SequenceSampler sampler(request, kEos, kVocabSize);
  EXPECT_EQ(CountsOf(sampler.DrawRow(0, 0)), (std::map<uint32_t, uint32_t>{{5, 0}, {9, 0}}));
  for (const uint32_t token : {7u, 5u, 7u, 1u}) sampler.CountOutput(TokenId{token});
  EXPECT_EQ(CountsOf(sampler.DrawRow(0, 4)),
            (std::map<uint32_t, uint32_t>{{1, 1}, {5, 1}, {7, 2}, {9, 0}}));
}

TEST(SequenceSampler, PresenceAndFrequencyCountOutputAlone) {
  for (const bool presence : {true, false}) {
    Request request = MakeRequest();
    (presence ? request.sampling.presence_penalty : request.sampling.frequency_penalty) = 1.0f;
    SequenceSampler sampler(request, kEos, kVocabSize);
    EXPECT_EQ(sampler.DrawRow(0, 0).num_counts, 0u);
    sampler.CountOutput(TokenId{5});
    sampler.CountOutput(TokenId{5});
    EXPECT_EQ(CountsOf(sampler.DrawRow(0, 2)), (std::map<uint32_t, uint32_t>{{5, 2}}));
  }
}

TEST(SequenceSampler, CountingNeverMovesTheMemory) {
  Request request = MakeRequest();
  request.sampling.frequency_penalty = 1.0f;
  request.sampling.max_tokens = 50;
  SequenceSampler sampler(request, kEos, kVocabSize);
  const TokenCount* counts = sampler.DrawRow(0, 0).counts;
  for (uint32_t i = 0; i < 50; ++i) sampler.CountOutput(TokenId{kVocabSize - 1 - i});
  EXPECT_EQ(sampler.DrawRow(0, 50).counts, counts);
  EXPECT_EQ(sampler.DrawRow(0, 50).num_counts, 50u);
}

TEST(SequenceSampler, StopTokensAreBannedUntilMinTokens) {
  Request request = MakeRequest();
  request.sampling.min_tokens = 2;
  request.sampling.stop_token_ids = {TokenId{8},
                                     TokenId{kVocabSize}};  // the second cannot be sampled
  const SequenceSampler sampler(request, kEos, kVocabSize);
  for (const uint32_t position : {0u, 1u}) {
    const SampleRow row = sampler.DrawRow(0, position);
    EXPECT_EQ(std::vector<TokenId>(row.banned, row.banned + row.num_banned),
              (std::vector<TokenId>{TokenId{8}, TokenId{2}, TokenId{3}}));
  }
  EXPECT_EQ(sampler.DrawRow(0, 2).num_banned, 0u);

  request.sampling.ignore_eos = true;  // eos then ends nothing, so that it may come
  const SequenceSampler ignoring(request, kEos, kVocabSize);
  EXPECT_EQ(ignoring.DrawRow(0, 0).num_banned, 1u);
}

TEST(SequenceSampler, LogprobsAreCutToWhatExists) {
  Request request = MakeRequest();
  SampleResult result{};
  result.token = TokenId{1};
  result.logprob = -0.5f;
  result.rank = 2;
  result.top_ids[0] = TokenId{0};
  result.top_ids[1] = TokenId{1};
  EXPECT_EQ(SequenceSampler(request, kEos, kVocabSize).OutputLogprobs(result), nullptr);

  request.sampling.num_logprobs = 20;
  const auto logprobs = SequenceSampler(request, kEos, 2).OutputLogprobs(result);
  ASSERT_NE(logprobs, nullptr);
  EXPECT_EQ(logprobs->chosen.token, TokenId{1});
  EXPECT_EQ(logprobs->chosen.logprob, -0.5f);
  EXPECT_EQ(logprobs->chosen_rank, 2u);
  EXPECT_EQ(logprobs->top.size(), 2u);

  request.sampling.num_logprobs = 0;
  EXPECT_TRUE(SequenceSampler(request, kEos, kVocabSize).OutputLogprobs(result)->top.empty());
}

}  // namespace
}  // namespace kvs
