// The scheduler's invariants, executable.
#include "kvserve/check.h"
#include "schedule/scheduler_impl.h"

namespace kvs {

void Scheduler::CheckIntegrity() const { impl_->CheckIntegrity(); }

void Scheduler::Impl::CheckWaiting(const Sequence& sequence) const {
  KVS_CHECK(!sequence.scheduler_state.is_running);
  KVS_CHECK(sequence.finish == FinishReason::kNone);
  KVS_CHECK(sequence.block_table.empty());
  KVS_CHECK_OP(sequence.scheduler_state.num_released, ==, 0u);
  KVS_CHECK_OP(sequence.num_computed_tokens, ==, 0u);
  KVS_CHECK_OP(sequence.scheduler_state.end_in_flight, ==, 0u);
}

void Scheduler::Impl::CheckRunning(const Sequence& sequence) const {
  KVS_CHECK(sequence.scheduler_state.is_running);
  KVS_CHECK(sequence.finish == FinishReason::kNone);
  KVS_CHECK(sequence.num_computed_tokens < sequence.num_tokens() ||
            (sequence.num_computed_tokens == sequence.num_tokens() &&
             sequence.request.sampling.max_tokens == 0 &&
             sequence.scheduler_state.num_open_steps > 0));
  KVS_CHECK_OP(sequence.num_tokens(), <=, config.limits.max_model_len);
  KVS_CHECK_OP(sequence.block_table.size(), >=,
               size_t{blocks.NumBlocksFor(sequence.num_computed_tokens)});
  KVS_CHECK_OP(sequence.block_table.size(), <=, size_t{blocks.NumBlocksFor(sequence.num_tokens())});
  // What no later query sees is given back, and nothing else.
  const uint32_t num_released = sequence.scheduler_state.num_released;
  KVS_CHECK_OP(num_released, ==, NumUnseenBlocks(sequence));
  for (size_t i = 0; i < sequence.block_table.size(); ++i) {
    KVS_CHECK((sequence.block_table[i] == kNullBlock) == (i < num_released));
  }
  // What is still to be written is the sequence's own, and nobody can find it.
  const uint32_t first_open = sequence.num_computed_tokens / block_size();
  for (size_t i = first_open; i < sequence.block_table.size(); ++i) {
    const BlockId block = sequence.block_table[i];
    KVS_CHECK_OP(blocks.pool().ref_count(block), ==, 1u);
    KVS_CHECK(!blocks.pool().is_cached(block));
  }
  if (!caching()) return;
  for (uint32_t i = num_released; i < first_open; ++i) {
    KVS_CHECK(blocks.pool().content(sequence.block_table[i]) != kNoContent);
  }
}

void Scheduler::Impl::CheckIntegrity() const {
  waiting.CheckIntegrity();
  running.CheckIntegrity();
  // Only a step that is not committed owes a token.
  for (const SequenceQueue* queue : {&waiting, &running}) {
    for (size_t i = 0; i < queue->size(); ++i) {
      const SequenceState& state = (*queue)[i].scheduler_state;
      KVS_CHECK(!state.has_pending_token || state.num_open_steps > 0);
      KVS_CHECK_OP(state.num_open_steps, <=, num_open_steps);
    }
  }
  KVS_CHECK_OP(running.size(), <=, size_t{config.limits.max_num_seqs});
  for (size_t i = 0; i < waiting.size(); ++i) CheckWaiting(waiting[i]);

  std::vector<std::span<const BlockId>> tables;
  uint32_t num_marks = 0;
  for (size_t i = 0; i < running.size(); ++i) {
    const Sequence& sequence = running[i];
    CheckRunning(sequence);
    tables.push_back(sequence.block_table);
    const SequenceState& state = sequence.scheduler_state;
    const uint32_t first_open = sequence.num_computed_tokens / block_size();
    for (uint32_t k = first_open; k < state.end_in_flight; ++k) {
      num_marks += in_flight.IsOwner(sequence, state.chain[k]) ? 1 : 0;
    }
  }
  blocks.CheckIntegrity(tables);
  // No mark outlives the run of its owner.
  KVS_CHECK_OP(in_flight.size(), <=, num_marks);

  KVS_CHECK_OP(stats.num_running, ==, running.size());
  KVS_CHECK_OP(stats.num_waiting, ==, waiting.size());
  KVS_CHECK_OP(stats.num_blocks_held, ==, blocks.pool().num_held());
  KVS_CHECK_OP(stats.prefix_query_tokens - stats.prefix_hit_tokens, ==,
               stats.miss_tokens_not_cached + stats.miss_tokens_partial_block +
                   stats.miss_tokens_last_token);
}

}  // namespace kvs
