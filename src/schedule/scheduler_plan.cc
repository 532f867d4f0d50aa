// Plan: the running sequences in order, then the waiting ones, until a limit is met.
#include <algorithm>

#include "kvserve/check.h"
#include "schedule/scheduler_impl.h"

namespace kvs {

const StepPlan& Scheduler::Plan() {
  Impl& impl = *impl_;
  KVS_CHECK_OP(impl.num_open_steps, <, 2u);
  if (impl.num_open_steps > 0) impl.AdvanceStep(impl.newest());
  std::erase_if(impl.retired, [](const std::unique_ptr<Sequence>& sequence) {
    return sequence->scheduler_state.num_open_steps == 0;
  });
  impl.updates.clear();
  impl.plan.slices.clear();
  impl.plan.num_tokens = 0;
  impl.plan.num_logits_rows = 0;
  OpenStep& step = impl.open_steps[(impl.first_open_step + impl.num_open_steps) % 2];
  step.sequences.clear();
  step.num_new_tokens.clear();
  step.reaches_end.clear();
  step.has_advanced = false;
  ++impl.num_open_steps;
  impl.num_spare_rows = impl.config.limits.max_num_logits_rows - impl.config.limits.max_num_seqs;

  impl.stats.num_held_back = 0;
  impl.PlanRunning();
  impl.PlanWaiting();

  if (impl.plan.slices.empty()) {
    --impl.num_open_steps;
    // Whoever is first can always run: a sequence alone may use the whole pool (CanEverFit).
    KVS_CHECK(impl.num_open_steps > 0 || idle());
  }
  impl.UpdateStats();
  return impl.plan;
}

void Scheduler::Impl::PlanRunning() {
  for (size_t i = 0; i < running.size(); ++i) {
    Sequence& sequence = running[i];
    if (plan.num_tokens == config.limits.max_num_batched_tokens) return;
    if (AwaitsCommit(sequence)) continue;
    const uint32_t num_new_tokens = NumNewTokens(sequence);
    if (!MakeRoom(sequence, num_new_tokens)) return;
    AddSlice(sequence, num_new_tokens);
  }
}

void Scheduler::Impl::PlanWaiting() {
  size_t i = 0;
  // Whoever is admitted takes a block of its own and leaves one for each that runs: without that
  // room no prefix needs to be looked up.
  while (i < waiting.size() && running.size() < config.limits.max_num_seqs &&
         plan.num_tokens < config.limits.max_num_batched_tokens &&
         running.size() < blocks.pool().num_free()) {
    Sequence& sequence = waiting[i];
    switch (TryAdmit(sequence)) {
      case Admission::kAdmitted:
        running.Insert(waiting.TakeAt(i));
        AddSlice(sequence, NumNewTokens(sequence));
        break;
      case Admission::kHeldBack:
        ++stats.num_held_back;
        ++i;
        break;
      case Admission::kNoRoom:
        return;  // Later ones wait too, or they would starve it.
    }
  }
}

uint32_t Scheduler::Impl::NumNewTokens(const Sequence& sequence) const {
  const uint32_t num_remaining = sequence.num_tokens() - sequence.num_computed_tokens;
  const uint32_t budget = config.limits.max_num_batched_tokens - plan.num_tokens;
  uint32_t num_new_tokens = std::min(num_remaining, budget);
  const uint32_t num_rows = NumLogitsRows(sequence, num_new_tokens);
  if (num_rows > 1 + num_spare_rows) num_new_tokens -= num_rows - (1 + num_spare_rows);
  KVS_CHECK_OP(num_new_tokens, >, 0u);
  return num_new_tokens;
}

uint32_t Scheduler::Impl::NumLogitsRows(const Sequence& sequence, uint32_t num_new_tokens) const {
  const uint32_t begin = sequence.num_computed_tokens;
  const uint32_t end = begin + num_new_tokens;
  const uint32_t num_rows_given = sequence.scheduler_state.num_rows_given;
  if (sequence.request.sampling.num_prompt_logprobs &&
      num_rows_given < sequence.num_prompt_tokens) {
    return end - std::min(end, std::max(begin, num_rows_given));
  }
  return end == sequence.num_tokens() ? 1 : 0;
}

void Scheduler::Impl::AddSlice(Sequence& sequence, uint32_t num_new_tokens) {
  const uint32_t begin = sequence.num_computed_tokens;
  const uint32_t num_rows = NumLogitsRows(sequence, num_new_tokens);
  plan.slices.push_back({
      .token_ids = std::span(sequence.token_ids).subspan(begin, num_new_tokens),
      .first_position = begin,
      .block_table =
          std::span(sequence.block_table).first(blocks.NumBlocksFor(begin + num_new_tokens)),
      .num_logits_rows = num_rows,
      .sampled_row =
          sequence.scheduler_state.has_pending_token ? sequence.sampled_row : kNoSampledRow,
  });
  plan.num_tokens += num_new_tokens;
  plan.num_logits_rows += num_rows;
  if (num_rows > 1) num_spare_rows -= num_rows - 1;
  newest().sequences.push_back(&sequence);
  newest().num_new_tokens.push_back(num_new_tokens);
  ++sequence.scheduler_state.num_open_steps;
}

bool Scheduler::Impl::AwaitsCommit(const Sequence& sequence) const {
  const uint32_t max_tokens = sequence.request.sampling.max_tokens;
  if (!sequence.scheduler_state.has_pending_token) {
    return sequence.num_computed_tokens == sequence.num_tokens();  // max_tokens is 0
  }
  return sequence.num_output_tokens() >= max_tokens ||
         sequence.num_tokens() >= config.limits.max_model_len;
}

bool Scheduler::Impl::MakeRoom(Sequence& sequence, uint32_t num_new_tokens) {
  while (!blocks.TryGrow(sequence.block_table, sequence.num_computed_tokens + num_new_tokens)) {
    const bool is_last = &running.back() == &sequence;
    PreemptLast();
    if (is_last) return false;
  }
  return true;
}

// The last in order has no slice yet: those before it are planned first. It cannot be admitted in
// the same Plan: it needs every block it gave back, and one of them is taken.
void Scheduler::Impl::PreemptLast() {
  Sequence& victim = running.back();
  StopRunning(victim);
  victim.num_computed_tokens = 0;
  victim.scheduler_state.is_running = false;
  ++victim.num_preemptions;
  ++stats.num_preemptions;
  waiting.Insert(running.Take(victim));
}

}  // namespace kvs
