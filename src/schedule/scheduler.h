// Scheduler: who runs in the next step, with how many tokens, in which blocks.
//
// Continuous batching over one counter: prefill, chunk, prefix hit, decode and resume after
// preemption are all "compute the next tokens of a sequence". Plan only reserves; Commit alone
// tells which tokens were sampled and retires sequences.
//
// A step may be planned while the one before runs, so that a device never waits: the planned step's
// inputs then include tokens that nobody knows yet (ScheduledSlice::sampled_row). What is known
// without them is taken as done: counters advance and full blocks are cached, since the device
// computes in order. A sequence that the older step's Commit finds at its end has one token too
// many in the younger step; its blocks are given back at once, since whoever gets them writes
// later. A sequence that must end by its length is not planned again.
//
// Not thread-safe: owned by the engine thread. Knows nothing of bytes, dtypes, devices or text.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "blocks/block_hash.h"
#include "kvserve/options.h"
#include "kvserve/request.h"
#include "kvserve/step.h"
#include "schedule/sequence.h"

namespace kvs {

struct SchedulerConfig {
  StepLimits limits;
  uint32_t num_blocks = 0;  // usable blocks; ids 1..num_blocks (0 is the null block)
  bool enable_prefix_caching = false;
  // Positions that a query sees in any layer, its own included; 0: all up to its own. Blocks that
  // no later query sees are given back.
  uint32_t window = 0;
  SchedulingPolicy policy = SchedulingPolicy::kFcfs;
  std::vector<TokenId> eos_token_ids;
  uint64_t hash_seed = 0;                   // random per process; roots every block hash
  uint64_t kv_identity = 0;                 // of what the cache stores: dtypes and scales; likewise
  uint32_t num_hash_bits = kBlockHashBits;  // tests force collisions with fewer
};

// Monotonic counts and current states; read by the engine after each step to update metrics.
struct SchedulerStats {
  uint32_t num_running = 0;
  uint32_t num_waiting = 0;
  // Of these, how many the last Plan held back for a prefix that a running sequence computes.
  uint32_t num_held_back = 0;
  uint32_t num_blocks_total = 0;
  uint32_t num_blocks_held = 0;         // referenced by a running sequence
  uint32_t num_blocks_cached_free = 0;  // free, but still findable
  uint64_t num_preemptions = 0;
  uint64_t num_evicted_blocks = 0;
  // Prompt tokens looked up, once per request; a request with prompt logprobs looks nothing up.
  uint64_t prefix_query_tokens = 0;
  uint64_t prefix_hit_tokens = 0;
  // Looked-up tokens that missed, by cause; they sum to queries - hits.
  uint64_t miss_tokens_not_cached = 0;
  uint64_t miss_tokens_partial_block = 0;  // the tail that does not fill a block
  uint64_t miss_tokens_last_token = 0;     // a full hit still computes its last block
  uint64_t num_hash_collisions = 0;        // a hash matched, the tokens did not
};

// One sampled token, or one finished sequence, of the step just committed.
struct SequenceUpdate {
  Sequence* sequence = nullptr;  // valid until the next Plan
  size_t slice = 0;              // its place in that step's plan
  bool has_token = false;
  TokenId token{};
  FinishReason finish = FinishReason::kNone;
  bool token_is_stop = false;
};

class Scheduler {
 public:
  explicit Scheduler(const SchedulerConfig& config);
  ~Scheduler();  // every sequence must be gone

  // False when the request could never run here, for admission: no prompt, or prompt plus
  // max_tokens (cut at max_model_len) beyond the pool as it was at first. Thread-safe: reads
  // constants only.
  bool CanEverFit(uint32_t num_prompt_tokens, uint32_t max_tokens) const;

  // Makes a waiting sequence: moves request.prompt into token_ids and reserves its memory.
  // REQUIRES: CanEverFit, token_ids empty.
  void Add(std::unique_ptr<Sequence> sequence);

  // Removes a waiting or running sequence and frees its blocks; its `finish` becomes `reason` and
  // it stays valid until the Plan after the Commit of every step that has a slice of it. No update
  // tells of it. REQUIRES: not finished; the last plan's spans are not read any more.
  void Cancel(Sequence& sequence, FinishReason reason);

  // Chooses the next step. Empty only when nothing waits or runs, or when all that runs needs the
  // Commit of the step before; no Commit follows an empty one. Spans are valid until the next
  // Commit or Cancel. REQUIRES: of the steps planned, at most one is not committed.
  const StepPlan& Plan();
  // The sequences of the last Plan, in slice order: for sampling rows.
  std::span<Sequence* const> planned() const;
  uint32_t num_open_steps() const;  // planned and not committed

  // Ends the oldest open step. `sampled[i]` belongs to its slice i and is used when the slice
  // reached the end of the known tokens, max_tokens > 0 and the sequence has not finished since.
  // kNoToken fails that sequence with FinishReason::kError. Returns one update per slice that
  // sampled or finished, valid until the next Commit or Plan.
  std::span<const SequenceUpdate> Commit(std::span<const TokenId> sampled);

  bool idle() const;
  const SchedulerStats& stats() const;
  // Forgets cached blocks; false, changing nothing, when a block is held.
  bool ResetPrefixCache();
  // The cache became another one, in which nothing is stored: every sequence waits again, in its
  // order, and is computed from its first token when its turn comes. REQUIRES: no step is open; no
  // fewer blocks than before, for CanEverFit has let in what fitted.
  void Restart(uint32_t num_blocks, uint64_t kv_identity);
  // Aborts when an invariant of docs/ARCHITECTURE.md does not hold. Cheap enough for idle rounds.
  void CheckIntegrity() const;
  // Every live sequence, waiting and running, for the cancel sweep: `visit` may Cancel its own.
  void ForEachSequence(const std::function<void(Sequence&)>& visit);

 private:
  struct Impl;
  const StepLimits limits_;
  const uint64_t num_pool_tokens_;  // of the first pool; Restart makes it no smaller
  std::unique_ptr<Impl> impl_;
};

}  // namespace kvs
