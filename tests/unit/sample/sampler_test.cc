#include "sample/sampler.h"

#include <gtest/gtest.h>

namespace kvs {
namespace {

constexpr uint32_t kVocab = 100;
constexpr StepLimits kLimits = {.max_num_seqs = 4,
                                .max_num_batched_tokens = 32,
                                .max_model_len = 64,
                                .max_num_logits_rows = 32,
                                .block_size = 16};

std::vector<TokenId> Tokens(uint32_t num_tokens) {
  std::vector<TokenId> tokens;
  for (uint32_t i = 0; i < num_tokens; ++i) tokens.push_back(TokenId{10 + i});
  return tokens;
}

ScheduledSlice Slice(const std::vector<TokenId>& tokens, uint32_t first, uint32_t num_tokens,
                     uint32_t num_logits_rows) {
  ScheduledSlice slice;
  slice.token_ids = std::span(tokens).subspan(first, num_tokens);
  slice.first_position = first;
  slice.num_logits_rows = num_logits_rows;
  return slice;
}

void Answer(Sampler& sampler) {
  for (size_t i = 0; i < sampler.rows().size(); ++i) {
    const SampleRow& row = sampler.rows()[i];
    sampler.results()[i] = {};
    sampler.results()[i].token = row.draw ? TokenId{50 + row.logits_row} : row.given;
  }
}

TEST(Sampler, OneDrawPerSequenceThatReachesItsEnd) {
  Request request;
  request.prompt = Tokens(6);
  SequenceSampler decoding(request, {}, kVocab);
  SequenceSampler prefilling(request, {}, kVocab);
  SequenceSampler done(request, {}, kVocab);
  const std::vector<TokenId> tokens = Tokens(8);
  const std::vector<TokenId> prompt = Tokens(6);

  Sampler sampler(kLimits);
  sampler.AddSlice(decoding, tokens, Slice(tokens, 7, 1, 1));
  sampler.AddSlice(prefilling, prompt, Slice(prompt, 0, 4, 0));
  sampler.AddSlice(done, prompt, Slice(prompt, 2, 4, 1));
  ASSERT_EQ(sampler.rows().size(), 2u);
  EXPECT_EQ(sampler.rows()[0].logits_row, 0u);
  EXPECT_EQ(sampler.rows()[0].uniform, decoding.DrawRow(0, 2).uniform);  // two outputs before
  EXPECT_EQ(sampler.rows()[1].logits_row, 1u);
  EXPECT_EQ(sampler.rows()[1].uniform, done.DrawRow(0, 0).uniform);
  Answer(sampler);
  const auto sampled = sampler.Collect();
  ASSERT_EQ(sampled.size(), 3u);
  EXPECT_EQ(sampled[0], TokenId{50});
  EXPECT_NE(sampled[1], kNoToken);
  EXPECT_EQ(sampled[2], TokenId{51});
  EXPECT_NE(sampler.DrawResult(0), nullptr);
  EXPECT_EQ(sampler.DrawResult(1), nullptr);
  EXPECT_EQ(sampler.DrawResult(2)->token, TokenId{51});

  sampler.Clear();
  EXPECT_TRUE(sampler.rows().empty());
}

TEST(Sampler, PromptLogprobsOverChunksAndAReplay) {
  Request request;
  request.prompt = Tokens(7);
  request.sampling.num_prompt_logprobs = 0;
  SequenceSampler sequence(request, {}, kVocab);
  const std::vector<TokenId> prompt = Tokens(7);
  Sampler sampler(kLimits);

  const auto run = [&](uint32_t first, uint32_t num_tokens, uint32_t num_rows) {
    sampler.Clear();
    sampler.AddSlice(sequence, prompt, Slice(prompt, first, num_tokens, num_rows));
    Answer(sampler);
    return sampler.Collect()[0];
  };
  run(0, 3, 3);  // rows 0..2 tell of tokens 1..3
  EXPECT_EQ(sampler.rows().size(), 3u);
  EXPECT_EQ(sampler.rows()[0].given, prompt[1]);
  EXPECT_FALSE(sampler.rows()[0].draw);
  run(0, 4, 4);  // computed again after a preemption: only the fourth is new
  ASSERT_EQ(sampler.rows().size(), 1u);
  EXPECT_EQ(sampler.rows()[0].given, prompt[4]);
  EXPECT_EQ(sampler.rows()[0].logits_row, 3u);
  const TokenId drawn = run(4, 3, 3);  // the last row draws
  ASSERT_EQ(sampler.rows().size(), 3u);
  EXPECT_TRUE(sampler.rows()[2].draw);
  EXPECT_EQ(drawn, TokenId{52});

  const auto logprobs = sequence.TakePromptLogprobs();
  ASSERT_EQ(logprobs->size(), 6u);
  for (size_t i = 0; i < 6; ++i) EXPECT_EQ((*logprobs)[i].chosen.token, prompt[i + 1]);
  EXPECT_FALSE(sequence.wants_prompt_logprobs());
}

TEST(Sampler, NothingIsDrawnWithoutTokensToGenerate) {
  Request request;
  request.prompt = Tokens(3);
  request.sampling.num_prompt_logprobs = 1;
  request.sampling.max_tokens = 0;
  SequenceSampler sequence(request, {}, kVocab);
  Sampler sampler(kLimits);
  sampler.AddSlice(sequence, request.prompt, Slice(request.prompt, 0, 3, 3));
  ASSERT_EQ(sampler.rows().size(), 2u);
  EXPECT_FALSE(sampler.rows()[0].draw);
  EXPECT_FALSE(sampler.rows()[1].draw);
  Answer(sampler);
  EXPECT_NE(sampler.Collect()[0], kNoToken);
  EXPECT_EQ(sampler.DrawResult(0), nullptr);
}

TEST(Sampler, APromptRowThatIsNotFiniteFailsTheDraw) {
  Request request;
  request.prompt = Tokens(4);
  request.sampling.num_prompt_logprobs = 0;
  SequenceSampler sequence(request, {}, kVocab);
  Sampler sampler(kLimits);
  sampler.AddSlice(sequence, request.prompt, Slice(request.prompt, 0, 2, 2));
  Answer(sampler);
  sampler.results()[1].token = kNoToken;
  sampler.Collect();
  EXPECT_TRUE(sequence.failed());
  sampler.Clear();
  sampler.AddSlice(sequence, request.prompt, Slice(request.prompt, 2, 2, 2));
  Answer(sampler);
  EXPECT_EQ(sampler.Collect()[0], kNoToken);  // also though its own rows are good
}

}  // namespace
}  // namespace kvs
