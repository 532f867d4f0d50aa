#include "schedule/scheduler.h"

#include <algorithm>
#include <utility>

#include "kvserve/check.h"
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
  retired.reserve(size_t{2} * config.limits.max_num_seqs);
  plan.slices.reserve(config.limits.max_num_seqs);
  for (OpenStep& step : open_steps) {
    step.sequences.reserve(config.limits.max_num_seqs);
    step.num_new_tokens.reserve(config.limits.max_num_seqs);
    step.reaches_end.reserve(config.limits.max_num_seqs);
  }
  updates.reserve(config.limits.max_num_seqs);
  UpdateStats();
}

Scheduler::Scheduler(const SchedulerConfig& config)
    : limits_(config.limits),
      num_pool_tokens_(uint64_t{config.num_blocks} * config.limits.block_size),
      impl_(std::make_unique<Impl>(config)) {}

Scheduler::~Scheduler() { KVS_CHECK(idle()); }

bool Scheduler::CanEverFit(uint32_t num_prompt_tokens, uint32_t max_tokens) const {
  // A prompt that fills max_model_len leaves no position for a first output token.
  const uint64_t num_needed = uint64_t{num_prompt_tokens} + std::min(max_tokens, 1u);
  if (num_prompt_tokens == 0 || num_needed > limits_.max_model_len) return false;
  return MaxNumTokens(limits_, num_prompt_tokens, max_tokens) <= num_pool_tokens_;
}

void Scheduler::Add(std::unique_ptr<Sequence> sequence) {
  Impl& impl = *impl_;
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
  KVS_CHECK(reason != FinishReason::kNone);
  KVS_CHECK(sequence.finish == FinishReason::kNone);
  sequence.finish = reason;
  impl.DropPending(sequence);
  impl.Retire(sequence);
  impl.UpdateStats();
}

std::span<Sequence* const> Scheduler::planned() const {
  if (impl_->plan.slices.empty()) return {};
  return impl_->newest().sequences;
}

uint32_t Scheduler::num_open_steps() const { return impl_->num_open_steps; }

bool Scheduler::idle() const { return impl_->waiting.empty() && impl_->running.empty(); }

const SchedulerStats& Scheduler::stats() const { return impl_->stats; }

bool Scheduler::ResetPrefixCache() {
  const bool is_reset = impl_->blocks.Reset();
  impl_->UpdateStats();
  return is_reset;
}

void Scheduler::Restart(uint32_t num_blocks, uint64_t kv_identity) {
  Impl& old = *impl_;
  KVS_CHECK_OP(old.num_open_steps, ==, 0u);
  KVS_CHECK_OP(num_blocks, >=, old.config.num_blocks);
  while (!old.running.empty()) old.PreemptLast();
  SchedulerConfig config = old.config;
  config.num_blocks = num_blocks;
  config.kv_identity = kv_identity;
  auto fresh = std::make_unique<Impl>(config);
  fresh->TakeOver(old);
  impl_ = std::move(fresh);
}

void Scheduler::Impl::TakeOver(Impl& old) {
  while (!old.waiting.empty()) {
    std::unique_ptr<Sequence> sequence = old.waiting.TakeAt(0);
    SequenceState& state = sequence->scheduler_state;
    state.is_held_back = false;
    if (caching()) {  // under the new root
      state.chain = blocks.MakeChain(sequence->request.cache_scope);
      state.chain.Reserve(static_cast<uint32_t>(sequence->token_ids.capacity()) / block_size());
    }
    waiting.Insert(std::move(sequence));
  }
  retired = std::move(old.retired);
  stats = old.stats;
  num_evicted_before = old.stats.num_evicted_blocks;
  num_collisions_before = old.stats.num_hash_collisions;
  UpdateStats();
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
  stats.num_evicted_blocks = num_evicted_before + pool.num_evicted();
  stats.num_hash_collisions = num_collisions_before + pool.num_collisions();
}

}  // namespace kvs
