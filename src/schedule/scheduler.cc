#include "schedule/scheduler.h"

#include <algorithm>
#include <utility>

#include "kvserve/check.h"
#include "schedule/finish_rules.h"
#include "schedule/scheduler_impl.h"

namespace kvs {
namespace {

const StepLimits& Checked(const StepLimits& limits) {
  KVS_CHECK_OP(limits.max_num_seqs, >, 0u);
  KVS_CHECK_OP(limits.max_num_batched_tokens, >, 0u);
  KVS_CHECK_OP(limits.max_model_len, >, 0u);
  KVS_CHECK_OP(limits.max_num_logits_rows, >=, limits.max_num_seqs);
  return limits;
}

// The most tokens a sequence can come to hold; 64 bits, so that no client's number overflows.
uint64_t MaxNumTokens(const StepLimits& limits, uint64_t num_prompt_tokens, uint32_t max_tokens) {
  return std::min<uint64_t>(num_prompt_tokens + max_tokens, limits.max_model_len);
}

}  // namespace

Scheduler::Impl::Impl(const SchedulerConfig& scheduler_config)
    : config(scheduler_config),
      blocks({.num_blocks = config.num_blocks,
              .block_size = Checked(config.limits).block_size,
              .hash_seed = config.hash_seed,
              .kv_identity = config.kv_identity,
              .num_hash_bits = config.num_hash_bits}),
      in_flight(config.num_blocks),
      waiting(config.policy),
      running(config.policy) {
  running.Reserve(config.limits.max_num_seqs);
  retired.reserve(config.limits.max_num_seqs);
  plan.slices.reserve(config.limits.max_num_seqs);
  planned.reserve(config.limits.max_num_seqs);
  updates.reserve(config.limits.max_num_seqs);
  UpdateStats();
}

Scheduler::Scheduler(const SchedulerConfig& config) : impl_(std::make_unique<Impl>(config)) {}

Scheduler::~Scheduler() { KVS_CHECK(idle()); }

bool Scheduler::CanEverFit(uint32_t num_prompt_tokens, uint32_t max_tokens) const {
  const SchedulerConfig& config = impl_->config;
  // A prompt that fills max_model_len leaves no position for a first output token.
  const uint64_t num_needed = uint64_t{num_prompt_tokens} + std::min(max_tokens, 1u);
  if (num_prompt_tokens == 0 || num_needed > config.limits.max_model_len) return false;
  return MaxNumTokens(config.limits, num_prompt_tokens, max_tokens) <=
         uint64_t{config.num_blocks} * config.limits.block_size;
}

void Scheduler::Add(std::unique_ptr<Sequence> sequence) {
  Impl& impl = *impl_;
  KVS_CHECK(!impl.plan_is_open);
  KVS_CHECK(sequence->token_ids.empty());
  const SamplingParams& sampling = sequence->request.sampling;
  KVS_CHECK(sampling.max_tokens > 0 || sampling.num_prompt_logprobs.has_value());
  sequence->token_ids = std::move(sequence->request.prompt);
  sequence->num_prompt_tokens = sequence->num_tokens();
  KVS_CHECK(CanEverFit(sequence->num_prompt_tokens, sampling.max_tokens));

  const auto max_num_tokens = static_cast<uint32_t>(
      MaxNumTokens(impl.config.limits, sequence->num_prompt_tokens, sampling.max_tokens));
  sequence->token_ids.reserve(max_num_tokens);
  sequence->block_table.reserve(impl.blocks.NumBlocksFor(max_num_tokens));
  if (impl.caching()) {
    HashChain& chain = sequence->scheduler_state.chain;
    chain = impl.blocks.MakeChain(sequence->request.cache_scope);
    chain.Reserve(max_num_tokens / impl.block_size());
  }
  impl.waiting.Insert(std::move(sequence));
  impl.UpdateStats();
}

void Scheduler::Cancel(Sequence& sequence, FinishReason reason) {
  Impl& impl = *impl_;
  KVS_CHECK(!impl.plan_is_open);
  KVS_CHECK(reason != FinishReason::kNone);
  KVS_CHECK(sequence.finish == FinishReason::kNone);
  sequence.finish = reason;
  if (sequence.scheduler_state.is_running) {
    impl.StopRunning(sequence);
    impl.retired.push_back(impl.running.Take(sequence));
  } else {
    impl.retired.push_back(impl.waiting.Take(sequence));
  }
  impl.UpdateStats();
}

std::span<Sequence* const> Scheduler::planned() const { return impl_->planned; }

std::span<const SequenceUpdate> Scheduler::Commit(std::span<const TokenId> sampled) {
  Impl& impl = *impl_;
  KVS_CHECK(impl.plan_is_open);
  KVS_CHECK_OP(sampled.size(), ==, impl.plan.slices.size());
  impl.plan_is_open = false;
  for (size_t i = 0; i < impl.planned.size(); ++i) {
    Sequence& sequence = *impl.planned[i];
    impl.Advance(sequence, static_cast<uint32_t>(impl.plan.slices[i].token_ids.size()));
    if (sequence.num_computed_tokens == sequence.num_tokens()) {
      impl.AppendSampled(sequence, sampled[i]);
    }
  }
  impl.RetireFinished();
  impl.UpdateStats();
  return impl.updates;
}

// The step has computed the sequence's next tokens: blocks that became full are cached.
void Scheduler::Impl::Advance(Sequence& sequence, uint32_t num_new_tokens) {
  SequenceState& state = sequence.scheduler_state;
  const uint32_t begin = sequence.num_computed_tokens / block_size();
  sequence.num_computed_tokens += num_new_tokens;
  const uint32_t end = sequence.num_computed_tokens / block_size();
  const uint32_t num_prompt_computed =
      std::min(sequence.num_computed_tokens, sequence.num_prompt_tokens);
  state.num_rows_given = std::max(state.num_rows_given, num_prompt_computed);
  if (caching()) {
    state.chain.Extend(sequence.token_ids);
    blocks.CacheFull(state.chain, sequence.token_ids, sequence.block_table, begin, end);
    in_flight.Unmark(sequence, begin, end);
  }
  ReleaseUnseen(sequence);
}

// The last full block stays: its content is what the next one continues.
uint32_t Scheduler::Impl::NumUnseenBlocks(const Sequence& sequence) const {
  const uint32_t next = sequence.num_computed_tokens;
  if (config.window == 0 || next < config.window) return 0;
  const uint32_t first_seen = next - config.window + 1;
  return std::min(first_seen / block_size(), std::max(next / block_size(), 1u) - 1);
}

void Scheduler::Impl::ReleaseUnseen(Sequence& sequence) {
  uint32_t& num_released = sequence.scheduler_state.num_released;
  const uint32_t num_unseen = NumUnseenBlocks(sequence);
  if (num_unseen <= num_released) return;
  blocks.ReleaseLeading(sequence.block_table, num_released, num_unseen);
  num_released = num_unseen;
}

void Scheduler::Impl::AppendSampled(Sequence& sequence, TokenId token) {
  SequenceUpdate update{.sequence = &sequence};
  if (sequence.request.sampling.max_tokens == 0) {
    update.finish = FinishReason::kLength;
  } else if (token == kNoToken) {
    update.finish = FinishReason::kError;
  } else {
    sequence.token_ids.push_back(token);
    const FinishDecision decision =
        DecideFinish(sequence, config.eos_token_ids, config.limits.max_model_len);
    update.has_token = true;
    update.token = token;
    update.finish = decision.reason;
    update.token_is_stop = decision.token_is_stop;
  }
  sequence.finish = update.finish;
  updates.push_back(update);
}

void Scheduler::Impl::RetireFinished() {
  for (const SequenceUpdate& update : updates) {
    if (update.finish == FinishReason::kNone) continue;
    StopRunning(*update.sequence);
    retired.push_back(running.Take(*update.sequence));
  }
}

void Scheduler::Impl::StopRunning(Sequence& sequence) {
  if (caching()) {
    SequenceState& state = sequence.scheduler_state;
    in_flight.Unmark(sequence, sequence.num_computed_tokens / block_size(), state.end_in_flight);
    state.end_in_flight = 0;
  }
  blocks.Release(sequence.block_table);
  sequence.scheduler_state.num_released = 0;
}

bool Scheduler::idle() const { return impl_->waiting.empty() && impl_->running.empty(); }

const SchedulerStats& Scheduler::stats() const { return impl_->stats; }

bool Scheduler::ResetPrefixCache() {
  const bool is_reset = impl_->blocks.Reset();
  impl_->UpdateStats();
  return is_reset;
}

void Scheduler::ForEachSequence(const std::function<void(Sequence&)>& visit) {
  std::vector<Sequence*>& sequences = impl_->visit_scratch;
  sequences.clear();
  for (size_t i = 0; i < impl_->running.size(); ++i) sequences.push_back(&impl_->running[i]);
  for (size_t i = 0; i < impl_->waiting.size(); ++i) sequences.push_back(&impl_->waiting[i]);
  for (Sequence* sequence : sequences) visit(*sequence);
}

void Scheduler::Impl::UpdateStats() {
  const BlockPool& pool = blocks.pool();
  stats.num_running = static_cast<uint32_t>(running.size());
  stats.num_waiting = static_cast<uint32_t>(waiting.size());
  stats.num_held_back = std::min(stats.num_held_back, stats.num_waiting);  // some were cancelled
  stats.num_blocks_total = pool.num_blocks();
  stats.num_blocks_held = pool.num_held();
  stats.num_blocks_cached_free = pool.num_cached_free();
  stats.num_evicted_blocks = pool.num_evicted();
  stats.num_hash_collisions = pool.num_collisions();
}

}  // namespace kvs
