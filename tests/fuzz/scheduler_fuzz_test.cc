// Random arrivals, cancellations, priorities and limits over tiny pools. FakeModel keeps its state
// in the blocks that the scheduler hands out, so that every token shows what was read from where.
// Half of the schedulers plan a step before the one before is committed.
#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <map>
#include <memory>
#include <vector>

#include "fuzz/fuzz_support.h"
#include "schedule/scheduler.h"
#include "unit/schedule/fake_model.h"

namespace kvs {
namespace {

constexpr uint32_t kVocab = 40;
constexpr TokenId kEos{7};
constexpr uint32_t kMaxLive = 24;

struct Expected {
  std::vector<TokenId> output;  // alone
  FinishReason finish = FinishReason::kNone;
  size_t num_seen = 0;
};

struct Totals {
  uint64_t num_finished = 0;
  uint64_t num_cancelled = 0;
  uint64_t num_steps = 0;
  uint64_t num_surplus = 0;  // tokens of sequences that had ended when they were computed
  uint64_t num_preemptions = 0;
  uint64_t num_hit_tokens = 0;
  uint64_t num_collisions = 0;
  uint32_t max_preemptions_per_request = 0;
};

SchedulerConfig RandomConfig(FuzzRandom& random, uint32_t num_hash_bits) {
  SchedulerConfig config;
  config.limits.block_size = random.OneIn(2) ? 4 : 3;
  config.limits.max_num_seqs = random.Between(1, 8);
  config.limits.max_num_batched_tokens = random.Between(1, 40);
  config.limits.max_model_len = random.Between(8, 90);
  config.limits.max_num_logits_rows = config.limits.max_num_seqs + random.Below(10);
  config.num_blocks = random.Between(3, 40);
  config.enable_prefix_caching = !random.OneIn(5);
  config.window = random.OneIn(2) ? random.Between(1, 30) : 0;
  config.policy = random.OneIn(2) ? SchedulingPolicy::kFcfs : SchedulingPolicy::kPriority;
  config.eos_token_ids = {kEos};
  config.hash_seed = random.Below(1000);
  config.num_hash_bits = num_hash_bits;
  return config;
}

class SchedulerFuzz {
 public:
  SchedulerFuzz(FuzzRandom& random, const SchedulerConfig& config, Totals& totals)
      : random_(random),
        config_(config),
        totals_(totals),
        is_pipelined_(random.OneIn(2)),
        scheduler_(config),
        model_(config.num_blocks, config.limits.block_size, kVocab, config.window) {}

  void Op() {
    const uint32_t op = random_.Below(100);
    if (op < 25) {
      Add();
    } else if (op < 30) {
      CancelOne();
    } else if (op < 31) {
      const bool is_free = scheduler_.stats().num_blocks_held == 0;
      ASSERT_EQ(scheduler_.ResetPrefixCache(), is_free);
    } else {
      Step();
    }
    scheduler_.CheckIntegrity();
  }

  // No more arrivals: everyone ends, within a bound on the steps. In each step the first in order
  // advances, and whoever comes before it later sets it back once at the most.
  void Drain() {
    const SchedulerStats& stats = scheduler_.stats();
    const uint64_t num_live = stats.num_running + stats.num_waiting;
    uint64_t num_steps_left = 1 + 2 * num_live * (num_live + 1) * config_.limits.max_model_len;
    while (!scheduler_.idle() || !launched_.empty()) {
      ASSERT_GT(num_steps_left--, 0u) << "no progress";
      Step();
      if (::testing::Test::HasFatalFailure()) return;
      scheduler_.CheckIntegrity();
    }
    ASSERT_TRUE(expected_.empty()) << "a sequence ended without a finish";
    ASSERT_EQ(scheduler_.stats().num_blocks_held, 0u);
    totals_.num_preemptions += scheduler_.stats().num_preemptions;
    totals_.num_hit_tokens += scheduler_.stats().prefix_hit_tokens;
    totals_.num_collisions += scheduler_.stats().num_hash_collisions;
  }

 private:
  Request RandomRequest() {
    Request request;
    request.id = RequestId{++last_id_};
    request.priority = static_cast<int32_t>(random_.Below(3));
    request.arrival = SteadyTime(std::chrono::milliseconds(last_id_ / 2));
    request.cache_scope = random_.OneIn(8) ? "other" : "";
    const uint32_t family = random_.Below(3);
    const uint32_t num_prompt = random_.Between(1, 50);
    for (uint32_t i = 0; i < num_prompt; ++i) {
      request.prompt.push_back(
          TokenId{random_.OneIn(40) ? random_.Below(kVocab) : (family * 7 + i) % kVocab});
    }
    SamplingParams& sampling = request.sampling;
    sampling.max_tokens = random_.Between(1, 25);
    if (random_.OneIn(6)) {
      sampling.num_prompt_logprobs = 1;
      sampling.max_tokens = random_.Below(4);
    }
    sampling.ignore_eos = random_.OneIn(3);
    sampling.min_tokens = random_.OneIn(3) ? random_.Below(5) : 0;
    if (random_.OneIn(4)) sampling.stop_token_ids = {TokenId{random_.Below(kVocab)}};
    return request;
  }

  // What the request comes to alone, from the words of the API and not from finish_rules.
  Expected ExpectedAlone(const Request& request) const {
    const SamplingParams& sampling = request.sampling;
    const size_t room = config_.limits.max_model_len - request.prompt.size();
    Expected expected{
        .output = model_.Continue(request.prompt, std::min<size_t>(sampling.max_tokens, room)),
        .finish = FinishReason::kLength};
    for (size_t i = sampling.min_tokens; i < expected.output.size(); ++i) {
      const TokenId token = expected.output[i];
      const auto& stops = sampling.stop_token_ids;
      if ((token == kEos && !sampling.ignore_eos) ||
          std::find(stops.begin(), stops.end(), token) != stops.end()) {
        expected.output.resize(i + 1);
        expected.finish = FinishReason::kStop;
        break;
      }
    }
    return expected;
  }

  void Add() {
    const SchedulerStats& stats = scheduler_.stats();
    if (stats.num_running + stats.num_waiting >= kMaxLive) return;
    Request request = RandomRequest();
    const auto num_prompt = static_cast<uint32_t>(request.prompt.size());
    if (!scheduler_.CanEverFit(num_prompt, request.sampling.max_tokens)) return;
    expected_[request.id.value] = ExpectedAlone(request);
    auto sequence = std::make_unique<Sequence>();
    sequence->request = std::move(request);
    scheduler_.Add(std::move(sequence));
  }

  void CancelOne() {
    const SchedulerStats& stats = scheduler_.stats();
    const uint32_t num_live = stats.num_running + stats.num_waiting;
    if (num_live == 0) return;
    uint32_t countdown = random_.Below(num_live);
    scheduler_.ForEachSequence([&](Sequence& sequence) {
      if (countdown-- != 0) return;
      scheduler_.Cancel(sequence, FinishReason::kCancelled);
      expected_.erase(sequence.request.id.value);
      ++totals_.num_cancelled;
    });
  }

  // What the device has been given and the scheduler not been told.
  struct LaunchedStep {
    std::vector<Sequence*> sequences;
    std::vector<bool> draws;
    std::vector<TokenId> sampled;
  };

  // One step more for the device; the one before ends then. Now and then the device is waited for.
  void Step() {
    const bool is_launched = Launch();
    if (::testing::Test::HasFatalFailure()) return;
    const bool waits = !is_pipelined_ || !is_launched || random_.OneIn(10);
    while (launched_.size() > (waits ? 0 : 1)) {
      // Clients come and go while the younger step runs.
      if (random_.OneIn(20)) Add();
      if (random_.OneIn(20)) CancelOne();
      CommitOldest();
      scheduler_.CheckIntegrity();
    }
  }

  bool Launch() {
    const StepPlan& plan = scheduler_.Plan();
    scheduler_.CheckIntegrity();
    if (plan.slices.empty()) {
      EXPECT_TRUE(scheduler_.idle() || !launched_.empty());
      return false;
    }
    CheckPlan(plan);
    LaunchedStep step;
    const auto planned = scheduler_.planned();
    for (size_t i = 0; i < planned.size(); ++i) {
      const ScheduledSlice& slice = plan.slices[i];
      step.sequences.push_back(planned[i]);
      step.draws.push_back(slice.first_position + slice.token_ids.size() ==
                               planned[i]->num_tokens() &&
                           planned[i]->request.sampling.max_tokens > 0);
      planned[i]->sampled_row = static_cast<uint32_t>(i);
    }
    step.sampled = model_.Run(plan);
    launched_.push_back(std::move(step));
    ++totals_.num_steps;
    return true;
  }

  void CommitOldest() {
    LaunchedStep& step = launched_.front();
    if (random_.OneIn(200)) FailOne(step);
    for (size_t i = 0; i < step.sequences.size(); ++i) {
      totals_.num_surplus += step.draws[i] && step.sequences[i]->finish != FinishReason::kNone;
    }
    for (const SequenceUpdate& update : scheduler_.Commit(step.sampled)) {
      ASSERT_EQ(update.sequence, step.sequences[update.slice]);
      CheckUpdate(update);
    }
    launched_.pop_front();
  }

  void CheckPlan(const StepPlan& plan) {
    uint32_t num_tokens = 0;
    uint32_t num_rows = 0;
    for (const ScheduledSlice& slice : plan.slices) {
      ASSERT_GT(slice.token_ids.size(), 0u);
      num_tokens += static_cast<uint32_t>(slice.token_ids.size());
      num_rows += slice.num_logits_rows;
    }
    ASSERT_EQ(num_tokens, plan.num_tokens);
    ASSERT_EQ(num_rows, plan.num_logits_rows);
    ASSERT_LE(num_tokens, config_.limits.max_num_batched_tokens);
    ASSERT_LE(num_rows, config_.limits.max_num_logits_rows);
    ASSERT_LE(plan.slices.size(), config_.limits.max_num_seqs);
    for (size_t i = 0; i < plan.slices.size(); ++i) {
      const Sequence& sequence = *scheduler_.planned()[i];
      const size_t end = plan.slices[i].first_position + plan.slices[i].token_ids.size();
      ASSERT_EQ(plan.slices[i].first_position, sequence.num_computed_tokens);
      if (end == sequence.num_tokens()) {
        ASSERT_GE(plan.slices[i].num_logits_rows, 1u);
      }
    }
  }

  // One sequence's logits are not finite in this step.
  void FailOne(LaunchedStep& step) {
    const uint32_t i = random_.Below(static_cast<uint32_t>(step.sampled.size()));
    const Sequence& sequence = *step.sequences[i];
    step.sampled[i] = kNoToken;
    if (!step.draws[i] || sequence.finish != FinishReason::kNone) return;
    Expected& expected = expected_.at(sequence.request.id.value);
    expected.output.resize(expected.num_seen);
    expected.finish = FinishReason::kError;
  }

  void CheckUpdate(const SequenceUpdate& update) {
    const Sequence& sequence = *update.sequence;
    const auto it = expected_.find(sequence.request.id.value);
    ASSERT_NE(it, expected_.end()) << "a second finish";
    Expected& expected = it->second;
    if (update.has_token) {
      ASSERT_LT(expected.num_seen, expected.output.size());
      ASSERT_EQ(update.token, expected.output[expected.num_seen]) << "request " << it->first;
      ++expected.num_seen;
    }
    ASSERT_EQ(sequence.finish, update.finish);
    if (update.finish == FinishReason::kNone) return;
    ASSERT_EQ(update.finish, expected.finish);
    ASSERT_EQ(update.token_is_stop, update.finish == FinishReason::kStop);
    ASSERT_EQ(expected.num_seen, expected.output.size());
    totals_.max_preemptions_per_request =
        std::max(totals_.max_preemptions_per_request, sequence.num_preemptions);
    ++totals_.num_finished;
    expected_.erase(it);
  }

  FuzzRandom& random_;
  const SchedulerConfig config_;
  Totals& totals_;
  const bool is_pipelined_;
  Scheduler scheduler_;
  FakeModel model_;
  std::map<uint64_t, Expected> expected_;
  std::deque<LaunchedStep> launched_;
  uint64_t last_id_ = 0;
};

void RunSchedulerFuzz(const char* name, uint64_t seed, uint32_t num_hash_bits, uint64_t num_ops) {
  FuzzRandom random(name, seed);
  Totals totals;
  for (uint64_t op = 0; op < num_ops;) {
    SchedulerFuzz fuzz(random, RandomConfig(random, num_hash_bits), totals);
    for (uint32_t i = 0; i < 2000 && op < num_ops; ++i, ++op) {
      fuzz.Op();
      // The scheduler cannot end with sequences in it: stop here with the report.
      if (::testing::Test::HasFatalFailure()) {
        std::printf("%s: failed at operation %llu\n", name, static_cast<unsigned long long>(op));
        std::fflush(stdout);
        return;
      }
    }
    fuzz.Drain();
    if (::testing::Test::HasFatalFailure()) return;
  }
  std::printf(
      "%s: %llu operations, %llu steps, %llu finished, %llu cancelled, %llu preemptions (at most "
      "%u of one request), %llu surplus tokens, %llu tokens hit, %llu collisions\n",
      name, static_cast<unsigned long long>(num_ops),
      static_cast<unsigned long long>(totals.num_steps),
      static_cast<unsigned long long>(totals.num_finished),
      static_cast<unsigned long long>(totals.num_cancelled),
      static_cast<unsigned long long>(totals.num_preemptions), totals.max_preemptions_per_request,
      static_cast<unsigned long long>(totals.num_surplus),
      static_cast<unsigned long long>(totals.num_hit_tokens),
      static_cast<unsigned long long>(totals.num_collisions));
  EXPECT_GT(totals.num_finished, num_ops / 50);
  EXPECT_GT(totals.num_preemptions, num_ops / 1000);
  EXPECT_GT(totals.num_surplus, num_ops / 500);
  EXPECT_GT(totals.num_hit_tokens, num_ops / 50);
  EXPECT_EQ(totals.num_collisions > 0, num_hash_bits < kBlockHashBits);
}

TEST(SchedulerFuzz, EverySequenceGetsTheTokensItGetsAlone) {
  RunSchedulerFuzz("whole hashes", 20240611, kBlockHashBits, 600'000 / kFuzzDivisor);
}

TEST(SchedulerFuzz, AlsoWithEightBitHashes) {
  RunSchedulerFuzz("8-bit hashes", 20240612, 8, 400'000 / kFuzzDivisor);
}

}  // namespace
}  // namespace kvs
