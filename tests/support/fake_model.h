// FakeModel: a StepRunner without weights that shows any mix-up of KV blocks. Its "KV cache" holds
// one token with its position per slot. A step writes the plan's tokens through the block tables
// and reads every earlier position back through them; logits are a pseudo-random function of what
// was read. A block that was freed too early, shared wrongly or written twice changes the output of
// whoever reads it, or fails the check of positions.
//
// One thread at a time. `on_forward` runs at the start of every Forward, on that thread.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <span>
#include <vector>

#include "kvserve/check.h"
#include "kvserve/ids.h"
#include "model/model.h"
#include "support/reference_sampler.h"

namespace kvs::test {

struct FakeModelOptions {
  StepLimits limits;
  uint32_t num_blocks = 0;  // usable; the null block comes on top
  uint32_t vocab_size = 128;
  // A sequence in which this token stands gets logits that are not a number.
  std::optional<TokenId> nan_token;
  // As a device that works behind the host: tokens of a sampling are input of the next Forward
  // before FinishSample tells them.
  bool pipelined = false;
};

class FakeModel : public StepRunner {
 public:
  explicit FakeModel(const FakeModelOptions& options)
      : options_(options),
        cells_(size_t{options.num_blocks + 1} * options.limits.block_size),
        logits_(size_t{options.limits.max_num_logits_rows} * options.vocab_size) {}

  std::function<void(const StepPlan&)> on_forward;

  bool is_pipelined() const override { return options_.pipelined; }

  float* Forward(const StepPlan& plan) override {
    KVS_CHECK_OP(num_unfinished_, <=, options_.pipelined ? 1 : 0);
    if (on_forward) on_forward(plan);
    CheckPlan(plan);
    for (const ScheduledSlice& slice : plan.slices) Write(slice);
    float* row = logits_.data();
    for (const ScheduledSlice& slice : plan.slices) row = ReadAndRate(slice, row);
    return logits_.data();
  }

  void StartSample(std::span<const SampleRow> rows, std::span<SampleResult> results,
                   float* logits) override {
    KVS_CHECK_OP(rows.size(), ==, results.size());
    KVS_CHECK_OP(num_unfinished_, ==, 0);
    ++num_unfinished_;
    sampled_.clear();
    for (size_t i = 0; i < rows.size(); ++i) {
      KVS_CHECK(i == 0 || rows[i - 1].logits_row < rows[i].logits_row);
      const float* row = logits + size_t{rows[i].logits_row} * options_.vocab_size;
      sampled_.push_back(ReferenceSample(rows[i], {row, options_.vocab_size}));
    }
  }

  void FinishSample(std::span<const SampleRow> rows, std::span<SampleResult> results) override {
    KVS_CHECK_OP(num_unfinished_, ==, 1);
    --num_unfinished_;
    KVS_CHECK_OP(rows.size(), ==, sampled_.size());
    std::copy(sampled_.begin(), sampled_.end(), results.begin());
  }

  uint64_t num_saturated() const override { return 0; }

  // Logits after `tokens`, as Forward gives them when the cache is right.
  static std::vector<float> LogitsAfter(std::span<const TokenId> tokens, uint32_t vocab_size) {
    uint64_t state = 0;
    for (const TokenId token : tokens) state = Chain(state, token);
    std::vector<float> logits(vocab_size);
    Rate(state, vocab_size, logits.data());
    return logits;
  }

  // What a greedy request without penalties generates, ignoring eos.
  static std::vector<TokenId> GreedyOutput(std::vector<TokenId> tokens, uint32_t num_tokens,
                                           uint32_t vocab_size = 128) {
    std::vector<TokenId> output;
    for (uint32_t i = 0; i < num_tokens; ++i) {
      const std::vector<float> logits = LogitsAfter(tokens, vocab_size);
      const auto best = std::max_element(logits.begin(), logits.end()) - logits.begin();
      output.push_back(TokenId{static_cast<uint32_t>(best)});
      tokens.push_back(output.back());
    }
    return output;
  }

 private:
  struct Cell {
    TokenId token{};
    uint32_t position = UINT32_MAX;  // never written
  };

  // The finalizer of SplitMix64 (Steele, Lea, Flood, 2014).
  static uint64_t Mix(uint64_t x) {
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
    return x ^ (x >> 31);
  }
  static uint64_t Chain(uint64_t state, TokenId token) {
    return Mix(state + 0x9e3779b97f4a7c15 * (uint64_t{token.value} + 1));
  }
  static void Rate(uint64_t state, uint32_t vocab_size, float* row) {
    for (uint32_t i = 0; i < vocab_size; ++i) {
      row[i] = static_cast<float>(Mix(state ^ (uint64_t{i} << 32)) >> 40) * 0x1.0p-21f;  // [0, 8)
    }
  }

  Cell& CellAt(const ScheduledSlice& slice, uint32_t position) {
    const uint32_t block_size = options_.limits.block_size;
    const BlockId block = slice.block_table[position / block_size];
    KVS_CHECK(block != kNullBlock);
    KVS_CHECK_OP(block.value, <=, options_.num_blocks);
    return cells_[SlotOf(block, position % block_size, block_size).value];
  }

  void CheckPlan(const StepPlan& plan) const {
    const StepLimits& limits = options_.limits;
    uint32_t num_tokens = 0;
    uint32_t num_rows = 0;
    for (const ScheduledSlice& slice : plan.slices) {
      KVS_CHECK(!slice.token_ids.empty());
      KVS_CHECK_OP(slice.num_logits_rows, <=, slice.token_ids.size());
      const size_t end = slice.first_position + slice.token_ids.size();
      KVS_CHECK_OP(end, <=, limits.max_model_len);
      KVS_CHECK_OP(end, <=, slice.block_table.size() * limits.block_size);
      num_tokens += static_cast<uint32_t>(slice.token_ids.size());
      num_rows += slice.num_logits_rows;
    }
    KVS_CHECK_OP(num_tokens, ==, plan.num_tokens);
    KVS_CHECK_OP(num_rows, ==, plan.num_logits_rows);
    KVS_CHECK_OP(plan.slices.size(), <=, limits.max_num_seqs);
    KVS_CHECK_OP(num_tokens, <=, limits.max_num_batched_tokens);
    KVS_CHECK_OP(num_rows, <=, limits.max_num_logits_rows);
  }

  void Write(const ScheduledSlice& slice) {
    for (uint32_t i = 0; i < slice.token_ids.size(); ++i) {
      TokenId token = slice.token_ids[i];
      if (i + 1 == slice.token_ids.size() && slice.sampled_row != kNoSampledRow) {
        KVS_CHECK(options_.pipelined && token == kNoToken);
        KVS_CHECK_OP(slice.sampled_row, <, sampled_.size());
        token = sampled_[slice.sampled_row].token;
      } else {
        KVS_CHECK_OP(token.value, <, options_.vocab_size);
      }
      CellAt(slice, slice.first_position + i) = {token, slice.first_position + i};
    }
  }

  // Fills the slice's rows of logits from what the cache holds; returns the next row.
  float* ReadAndRate(const ScheduledSlice& slice, float* row) {
    const auto end = slice.first_position + static_cast<uint32_t>(slice.token_ids.size());
    uint64_t state = 0;
    bool broken = false;
    for (uint32_t position = 0; position < end; ++position) {
      const Cell& cell = CellAt(slice, position);
      KVS_CHECK_OP(cell.position, ==, position);
      state = Chain(state, cell.token);
      broken = broken || cell.token == options_.nan_token;
      if (position + slice.num_logits_rows < end) continue;
      Rate(state, options_.vocab_size, row);
      if (broken) row[0] = std::numeric_limits<float>::quiet_NaN();
      row += options_.vocab_size;
    }
    return row;
  }

  const FakeModelOptions options_;
  std::vector<Cell> cells_;  // by slot
  std::vector<float> logits_;
  std::vector<SampleResult> sampled_;  // by the latest StartSample
  int num_unfinished_ = 0;
};

}  // namespace kvs::test
