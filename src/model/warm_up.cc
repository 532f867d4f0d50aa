#include "model/warm_up.h"

#include <algorithm>
#include <array>
#include <vector>

#include "model/kv_cache.h"

namespace kvs {
namespace {

constexpr uint32_t kPromptTokens = 256;
constexpr uint32_t kRestTokens = 48;                 // more than a device takes one by one
constexpr uint32_t kFewTokens[] = {1, 2, 4, 8, 16};  // as a device pads what it takes one by one
constexpr uint32_t kContext = 8192;                  // so long that a device divides it

SampleRow Greedy() {
  SampleRow row{};
  row.top_p = 1.0f;
  row.repetition_penalty = 1.0f;
  row.draw = true;
  row.given = kNoToken;
  row.num_logprobs = -1;
  return row;
}

SampleRow Sampled() {
  SampleRow row = Greedy();
  row.temperature = 1.0f;
  row.uniform = 0.5;
  return row;
}

SampleRow Filtered() {
  SampleRow row = Sampled();
  row.top_k = 20;
  row.top_p = 0.9f;
  row.min_p = 0.01f;
  return row;
}

// One sequence of zeros.
class ZeroSequence {
 public:
  ZeroSequence(const StepLimits& limits, Model& model)
      : limits_(limits),
        model_(model),
        tokens_(limits.max_num_batched_tokens, TokenId{0}),
        table_(model.kv_cache().num_blocks()) {
    for (uint32_t i = 0; i < table_.size(); ++i) table_[i] = BlockId{i + 1};
  }

  // Positions that it may have.
  uint32_t NumPositions() const {
    const uint64_t in_cache = uint64_t{table_.size()} * limits_.block_size;
    return static_cast<uint32_t>(std::min<uint64_t>(in_cache, limits_.max_model_len));
  }

  // Computes `count` tokens from `first` on, and samples after the last. As many as fit.
  void Step(uint32_t first, uint32_t count, const SampleRow& row) {
    count = std::min({count, limits_.max_num_batched_tokens, NumPositions() - first});
    StepPlan plan;
    plan.slices.push_back({.token_ids = {tokens_.data(), count},
                           .first_position = first,
                           .block_table = table_,
                           .num_logits_rows = 1});
    plan.num_tokens = count;
    plan.num_logits_rows = 1;
    std::array<SampleResult, 1> results;
    model_.Sample({&row, 1}, results, model_.Forward(plan));
  }

 private:
  const StepLimits limits_;
  Model& model_;
  const std::vector<TokenId> tokens_;
  std::vector<BlockId> table_;
};

}  // namespace

void WarmUp(const StepLimits& limits, Model& model) {
  ZeroSequence sequence(limits, model);
  const uint32_t end = std::min(sequence.NumPositions(), kContext);
  const auto back = [&](uint32_t count) { return end > count ? end - count : 0; };
  sequence.Step(0, kPromptTokens, Greedy());
  sequence.Step(back(kRestTokens), kRestTokens, Sampled());
  for (const uint32_t few : kFewTokens) {
    // The first of a kind runs plainly, the second is recorded.
    for (const SampleRow& row : {Filtered(), Greedy()}) sequence.Step(back(few), few, row);
  }

  const TokenCount count = {TokenId{0}, 1};
  const TokenBias bias = {TokenId{0}, 1.0f};
  const TokenId banned = {0};
  SampleRow adjusted = Filtered();
  adjusted.presence_penalty = adjusted.frequency_penalty = 0.1f;
  adjusted.repetition_penalty = 1.1f;
  adjusted.counts = &count;
  adjusted.biases = &bias;
  adjusted.banned = &banned;
  adjusted.num_counts = adjusted.num_biases = adjusted.num_banned = 1;
  adjusted.num_logprobs = 1;
  sequence.Step(back(1), 1, adjusted);
}

}  // namespace kvs
