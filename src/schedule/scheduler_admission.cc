// Admission: a waiting sequence begins to run with blocks for all of its known tokens at once, so
// that only the growth of outputs can exhaust the pool, and with one block to spare for each
// sequence that runs already, so that they do not preempt it at their next block.
#include <algorithm>

#include "base/log.h"
#include "kvserve/check.h"
#include "schedule/scheduler_impl.h"

namespace kvs {

Scheduler::Impl::Admission Scheduler::Impl::TryAdmit(Sequence& sequence) {
  SequenceState& state = sequence.scheduler_state;
  // Preempted in this Plan: the step before has yet to tell its last token.
  if (state.has_pending_token) return Admission::kNoRoom;
  PrefixMatch match;
  bool is_full_hit = false;
  if (caching()) state.chain.Extend(sequence.token_ids);
  if (ReadsPrefixCache(sequence)) {
    if (state.is_held_back && in_flight.Contains(state.chain[state.awaited_block_idx])) {
      return Admission::kHeldBack;
    }
    match = UsablePrefix(sequence, is_full_hit);
    if (IsHeldBack(sequence, match)) return Admission::kHeldBack;
  }
  if (!blocks.TryAdopt(match, sequence.block_table, sequence.num_tokens(),
                       static_cast<uint32_t>(running.size()))) {
    return Admission::kNoRoom;
  }
  const auto num_hit_blocks = static_cast<uint32_t>(match.blocks.size());
  sequence.num_computed_tokens = num_hit_blocks * block_size();
  state.is_running = true;
  ReleaseUnseen(sequence);
  if (caching()) in_flight.Mark(sequence, num_hit_blocks);
  if (!state.was_admitted) RecordLookup(sequence, is_full_hit);
  state.was_admitted = true;
  return Admission::kAdmitted;
}

bool Scheduler::Impl::ReadsPrefixCache(const Sequence& sequence) const {
  return caching() && !sequence.request.sampling.num_prompt_logprobs;
}

PrefixMatch Scheduler::Impl::UsablePrefix(Sequence& sequence, bool& is_full_hit) {
  PrefixMatch match = blocks.MatchPrefix(sequence.scheduler_state.chain, sequence.token_ids);
  is_full_hit = match.blocks.size() * block_size() == sequence.num_tokens();
  if (is_full_hit) {
    if (blocks.pool().ref_count(match.blocks.back()) == 0) --match.num_free;
    match.blocks = match.blocks.first(match.blocks.size() - 1);
  }
  return match;
}

// A last block that ends with the last token has to be computed anyway: nobody waits for it.
bool Scheduler::Impl::IsHeldBack(Sequence& sequence, const PrefixMatch& match) const {
  SequenceState& state = sequence.scheduler_state;
  const auto next = static_cast<uint32_t>(match.blocks.size());
  const uint32_t num_usable = (sequence.num_tokens() - 1) / block_size();
  state.is_held_back = next < num_usable && in_flight.Contains(state.chain[next]);
  state.awaited_block_idx = next;
  return state.is_held_back;
}

void Scheduler::Impl::RecordLookup(Sequence& sequence, bool is_full_hit) {
  if (!ReadsPrefixCache(sequence)) return;
  const uint32_t num_tokens = sequence.num_prompt_tokens;
  const uint32_t num_hit = sequence.num_computed_tokens;
  const uint32_t num_partial = num_tokens % block_size();
  const uint32_t num_last = is_full_hit ? block_size() : 0;
  sequence.num_cached_tokens = num_hit;
  stats.prefix_query_tokens += num_tokens;
  stats.prefix_hit_tokens += num_hit;
  stats.miss_tokens_partial_block += num_partial;
  stats.miss_tokens_last_token += num_last;
  stats.miss_tokens_not_cached += num_tokens - num_hit - num_partial - num_last;
  LOG_DEBUG("prefix lookup request={} prompt_tokens={} cached_blocks={} cache_hit_tokens={}",
            sequence.request.external_id, num_tokens, num_hit / block_size(), num_hit);
}

}  // namespace kvs
