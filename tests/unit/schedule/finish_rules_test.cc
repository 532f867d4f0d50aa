#include "schedule/finish_rules.h"

#include <gtest/gtest.h>

#include <array>

namespace kvs {
namespace {

constexpr std::array kEos{TokenId{2}, TokenId{3}};

struct Case {
  const char* name;
  uint32_t last_token;
  uint32_t num_output;
  SamplingParams sampling;
  FinishReason reason;
  bool token_is_stop;
};

SamplingParams Sampling(uint32_t max_tokens, uint32_t min_tokens = 0, bool ignore_eos = false,
                        std::vector<TokenId> stop = {}) {
  SamplingParams sampling;
  sampling.max_tokens = max_tokens;
  sampling.min_tokens = min_tokens;
  sampling.ignore_eos = ignore_eos;
  sampling.stop_token_ids = std::move(stop);
  return sampling;
}

TEST(FinishRules, Table) {
  using enum FinishReason;
  const Case cases[] = {
      {"goes on", 9, 1, Sampling(5), kNone, false},
      {"eos", 2, 1, Sampling(5), kStop, true},
      {"second eos id", 3, 1, Sampling(5), kStop, true},
      {"ignored eos", 2, 1, Sampling(5, 0, true), kNone, false},
      {"stop token", 9, 1, Sampling(5, 0, false, {TokenId{9}}), kStop, true},
      {"eos asked for as stop token", 2, 1, Sampling(5, 0, true, {TokenId{2}}), kStop, true},
      {"eos within min_tokens", 2, 3, Sampling(9, 3), kNone, false},
      {"eos after min_tokens", 2, 4, Sampling(9, 3), kStop, true},
      {"stop token within min_tokens", 9, 1, Sampling(9, 1, false, {TokenId{9}}), kNone, false},
      {"max_tokens", 9, 5, Sampling(5), kLength, false},
      {"eos at max_tokens", 2, 5, Sampling(5), kStop, true},
      {"max_tokens within min_tokens", 2, 5, Sampling(5, 5), kLength, false},
      {"max_model_len", 9, 16, Sampling(100), kLength, false},
      {"eos at max_model_len", 2, 16, Sampling(100), kStop, true},
      {"one before max_model_len", 9, 15, Sampling(100), kNone, false},
  };
  for (const Case& c : cases) {
    Sequence sequence;
    sequence.request.sampling = c.sampling;
    sequence.num_prompt_tokens = 4;
    sequence.token_ids.assign(4 + c.num_output, TokenId{9});
    sequence.token_ids.back() = TokenId{c.last_token};
    const FinishDecision decision = DecideFinish(sequence, kEos, 20);
    EXPECT_EQ(decision.reason, c.reason) << c.name;
    EXPECT_EQ(decision.token_is_stop, c.token_is_stop) << c.name;
  }
}

}  // namespace
}  // namespace kvs
