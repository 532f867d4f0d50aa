#include "model/warm_up.h"

#include <algorithm>
#include <span>
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

// Sequences of zeros.
class ZeroSequences {
 public:
  ZeroSequences(const StepLimits& limits, Model& model)
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

  // Computes `count` tokens of one sequence from `first` on, and samples after the last. As many as
  // fit.
  void Step(uint32_t first, uint32_t count, const SampleRow& row) {
    count = std::min({count, limits_.max_num_batched_tokens, NumPositions() - first});
    StepPlan plan;
    plan.slices.push_back({.token_ids = {tokens_.data(), count},
                           .first_position = first,
                           .block_table = table_,
                           .num_logits_rows = 1});
    plan.num_tokens = count;
    plan.num_logits_rows = 1;
    Run(plan, row);
  }

  // Computes one token of each of `count` sequences, at the same `position` of blocks of their own,
  // and samples after each. As many as fit.
  void StepEach(uint32_t position, uint32_t count, const SampleRow& row) {
    const uint32_t num_blocks = position / limits_.block_size + 1;
    const auto in_cache = static_cast<uint32_t>(table_.size()) - num_blocks + 1;
    count = std::min({count, limits_.max_num_seqs, limits_.max_num_batched_tokens,
                      limits_.max_num_logits_rows, in_cache});
    StepPlan plan;
    for (uint32_t i = 0; i < count; ++i) {
      plan.slices.push_back({.token_ids = {tokens_.data(), 1},
                             .first_position = position,
                             .block_table = std::span(table_).subspan(i),
                             .num_logits_rows = 1});
    }
    plan.num_tokens = plan.num_logits_rows = count;
    Run(plan, row);
  }

 private:
  void Run(const StepPlan& plan, const SampleRow& row) {
    const std::vector<SampleRow> rows(plan.num_logits_rows, row);
    std::vector<SampleResult> results(rows.size());
    model_.Sample(rows, results, model_.Forward(plan));
  }

  const StepLimits limits_;
  Model& model_;
  const std::vector<TokenId> tokens_;
  std::vector<BlockId> table_;
};

}  // namespace

void WarmUp(const StepLimits& limits, Model& model) {
  ZeroSequences sequences(limits, model);
  const uint32_t end = std::min(sequences.NumPositions(), kContext);
  const auto back = [&](uint32_t count) { return end > count ? end - count : 0; };
  sequences.Step(0, kPromptTokens, Greedy());
  sequences.Step(back(kRestTokens), kRestTokens, Sampled());
  for (const uint32_t few : kFewTokens) {
    // The first of a kind runs plainly, the second is recorded. Where a device launches otherwise
    // for tokens of several sequences, so are these.
    for (const SampleRow& row : {Filtered(), Greedy()}) {
      sequences.Step(back(few), few, row);
      if (few > 1) sequences.StepEach(back(few), few, row);
    }
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
  sequences.Step(back(1), 1, adjusted);
}

}  // namespace kvs
