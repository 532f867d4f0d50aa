// Runs a Scheduler against FakeModel and collects what each request came to.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "schedule/scheduler.h"
#include "unit/schedule/fake_model.h"

namespace kvs {

inline constexpr uint32_t kTestVocab = 1000;

inline SchedulerConfig TestConfig(uint32_t num_blocks) {
  SchedulerConfig config;
  config.limits = {.max_num_seqs = 8,
                   .max_num_batched_tokens = 64,
                   .max_model_len = 256,
                   .max_num_logits_rows = 8,
                   .block_size = 4};
  config.num_blocks = num_blocks;
  config.enable_prefix_caching = true;
  config.hash_seed = 1;
  return config;
}

inline std::vector<TokenId> TestPrompt(uint32_t count, uint32_t first = 0) {
  std::vector<TokenId> prompt;
  for (uint32_t i = 0; i < count; ++i) prompt.push_back(TokenId{first + i});
  return prompt;
}

class SchedulerHarness {
 public:
  struct Outcome {
    std::vector<TokenId> prompt;
    std::vector<TokenId> output;
    FinishReason finish = FinishReason::kNone;
    uint32_t num_finishes = 0;
    uint32_t num_cached_tokens = 0;
    uint32_t num_preemptions = 0;
  };

  explicit SchedulerHarness(const SchedulerConfig& config)
      : scheduler_(config),
        model_(config.num_blocks, config.limits.block_size, kTestVocab, config.window),
        config_(config) {}
  ~SchedulerHarness() {
    scheduler_.ForEachSequence(
        [this](Sequence& s) { scheduler_.Cancel(s, FinishReason::kCancelled); });
  }

  Sequence& Add(std::vector<TokenId> prompt, uint32_t max_tokens) {
    Request request;
    request.sampling.max_tokens = max_tokens;
    request.prompt = std::move(prompt);
    return Add(std::move(request));
  }
  Sequence& Add(Request request) {
    request.id = RequestId{++last_id_};
    outcomes_[last_id_].prompt = request.prompt;
    auto sequence = std::make_unique<Sequence>();
    sequence->request = std::move(request);
    Sequence& added = *sequence;
    scheduler_.Add(std::move(sequence));
    return added;
  }

  const StepPlan& Plan() { return scheduler_.Plan(); }
  std::vector<TokenId> Run(const StepPlan& plan) { return model_.Run(plan); }
  // What follows `prompt` when it runs alone.
  std::vector<TokenId> Alone(const std::vector<TokenId>& prompt, size_t num_output) const {
    return model_.Continue(prompt, num_output);
  }
  void Commit(const StepPlan& plan) { CommitSampled(Run(plan)); }
  void CommitSampled(const std::vector<TokenId>& sampled) {
    for (const SequenceUpdate& update : scheduler_.Commit(sampled)) {
      const Sequence& sequence = *update.sequence;
      Outcome& outcome = outcomes_[sequence.request.id.value];
      if (update.has_token) outcome.output.push_back(update.token);
      if (update.finish == FinishReason::kNone) continue;
      ++outcome.num_finishes;
      outcome.finish = update.finish;
      outcome.num_cached_tokens = sequence.num_cached_tokens;
      outcome.num_preemptions = sequence.num_preemptions;
    }
  }

  // One plan and its commit, with every limit and invariant checked. False when nothing is left.
  bool Step() {
    const StepPlan& plan = Plan();
    scheduler_.CheckIntegrity();
    CheckLimits(plan);
    if (plan.slices.empty()) return false;
    Commit(plan);
    scheduler_.CheckIntegrity();
    return true;
  }
  void RunToEnd(uint32_t max_num_steps = 100'000) {
    while (Step()) ASSERT_GT(max_num_steps--, 0u);
  }

  // Every request finished once, with the tokens it gets alone.
  void ExpectOutputsAsAlone() const {
    for (const auto& [id, outcome] : outcomes_) {
      EXPECT_EQ(outcome.num_finishes, 1u) << "request " << id;
      EXPECT_EQ(outcome.output, model_.Continue(outcome.prompt, outcome.output.size()))
          << "request " << id;
    }
  }

  Scheduler& scheduler() { return scheduler_; }
  const SchedulerStats& stats() const { return scheduler_.stats(); }
  const Outcome& outcome(const Sequence& sequence) const {
    return outcomes_.at(sequence.request.id.value);
  }
  const Outcome& outcome(uint64_t id) const { return outcomes_.at(id); }

 private:
  void CheckLimits(const StepPlan& plan) const {
    uint32_t num_tokens = 0;
    uint32_t num_rows = 0;
    const auto planned = scheduler_.planned();
    ASSERT_EQ(planned.size(), plan.slices.size());
    for (size_t i = 0; i < plan.slices.size(); ++i) {
      const ScheduledSlice& slice = plan.slices[i];
      ASSERT_FALSE(slice.token_ids.empty());
      ASSERT_EQ(slice.first_position, planned[i]->num_computed_tokens);
      const size_t end = slice.first_position + slice.token_ids.size();
      ASSERT_EQ(slice.block_table.size(),
                (end + config_.limits.block_size - 1) / config_.limits.block_size);
      if (end == planned[i]->num_tokens()) {
        ASSERT_GE(slice.num_logits_rows, 1u);
      }
      ASSERT_LE(slice.num_logits_rows, slice.token_ids.size());
      num_tokens += static_cast<uint32_t>(slice.token_ids.size());
      num_rows += slice.num_logits_rows;
    }
    ASSERT_EQ(plan.num_tokens, num_tokens);
    ASSERT_EQ(plan.num_logits_rows, num_rows);
    ASSERT_LE(plan.slices.size(), config_.limits.max_num_seqs);
    ASSERT_LE(num_tokens, config_.limits.max_num_batched_tokens);
    ASSERT_LE(num_rows, config_.limits.max_num_logits_rows);
  }

  Scheduler scheduler_;
  FakeModel model_;
  const SchedulerConfig config_;
  std::map<uint64_t, Outcome> outcomes_;
  uint64_t last_id_ = 0;
};

}  // namespace kvs
