// From a planned step to what it has done: first what is known without its samples, which may be
// before the device has computed it, then the tokens that it sampled.
#include <algorithm>

#include "kvserve/check.h"
#include "schedule/finish_rules.h"
#include "schedule/scheduler_impl.h"

namespace kvs {

std::span<const SequenceUpdate> Scheduler::Commit(std::span<const TokenId> sampled) {
  Impl& impl = *impl_;
  KVS_CHECK_OP(impl.num_open_steps, >, 0u);
  OpenStep& step = impl.oldest();
  KVS_CHECK_OP(sampled.size(), ==, step.sequences.size());
  if (!step.has_advanced) impl.AdvanceStep(step);
  impl.updates.clear();
  for (size_t i = 0; i < step.sequences.size(); ++i) {
    Sequence& sequence = *step.sequences[i];
    --sequence.scheduler_state.num_open_steps;
    if (sequence.finish != FinishReason::kNone || !step.reaches_end[i]) continue;
    impl.ResolvePending(sequence, i, sampled[i]);
  }
  for (const SequenceUpdate& update : impl.updates) {
    if (update.finish != FinishReason::kNone) impl.Retire(*update.sequence);
  }
  impl.first_open_step = (impl.first_open_step + 1) % 2;
  --impl.num_open_steps;
  impl.UpdateStats();
  return impl.updates;
}

void Scheduler::Impl::AdvanceStep(OpenStep& step) {
  step.has_advanced = true;
  for (size_t i = 0; i < step.sequences.size(); ++i) {
    Sequence& sequence = *step.sequences[i];
    step.reaches_end.push_back(false);
    if (sequence.finish != FinishReason::kNone) continue;
    Advance(sequence, step.num_new_tokens[i]);
    step.reaches_end[i] = sequence.num_computed_tokens == sequence.num_tokens();
    if (!step.reaches_end[i] || sequence.request.sampling.max_tokens == 0) continue;
    sequence.token_ids.push_back(kNoToken);
    sequence.scheduler_state.has_pending_token = true;
  }
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

// The sequence may have been preempted since: its token counts all the same.
void Scheduler::Impl::ResolvePending(Sequence& sequence, size_t slice, TokenId token) {
  SequenceUpdate update{.sequence = &sequence, .slice = slice};
  if (sequence.request.sampling.max_tokens == 0) {
    update.finish = FinishReason::kLength;
  } else if (token == kNoToken) {
    update.finish = FinishReason::kError;
    DropPending(sequence);
  } else {
    KVS_CHECK(sequence.scheduler_state.has_pending_token);
    sequence.scheduler_state.has_pending_token = false;
    sequence.token_ids.back() = token;
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

void Scheduler::Impl::DropPending(Sequence& sequence) const {
  if (!sequence.scheduler_state.has_pending_token) return;
  sequence.scheduler_state.has_pending_token = false;
  sequence.token_ids.pop_back();
}

void Scheduler::Impl::Retire(Sequence& sequence) {
  if (sequence.scheduler_state.is_running) {
    StopRunning(sequence);
    retired.push_back(running.Take(sequence));
  } else {
    retired.push_back(waiting.Take(sequence));
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

}  // namespace kvs
