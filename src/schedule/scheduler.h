// Scheduler: who runs in the next step, with how many tokens, in which blocks.
//
// Continuous batching over one counter: prefill, chunk, prefix hit, decode and resume after
// preemption are all "compute the next tokens of a sequence". Plan only reserves; Commit alone
// appends tokens, advances counters, caches blocks and retires sequences.
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
  // max_tokens (cut at max_model_len) beyond the pool. Thread-safe: reads constants only.
  bool CanEverFit(uint32_t num_prompt_tokens, uint32_t max_tokens) const;

  // Makes a waiting sequence: moves request.prompt into token_ids and reserves its memory.
  // REQUIRES: CanEverFit, token_ids empty, not between Plan and Commit.
  void Add(std::unique_ptr<Sequence> sequence);

  // Removes a waiting or running sequence and frees its blocks; its `finish` becomes `reason` and
  // it stays valid until the next Plan. No update tells of it. REQUIRES: not between Plan and
  // Commit, not finished.
  void Cancel(Sequence& sequence, FinishReason reason);

  // Chooses the next step. Empty only when nothing waits or runs; then no Commit follows. Spans
  // stay valid until Commit.
  const StepPlan& Plan();
  // The planned sequences, in slice order: for sampling rows.
  std::span<Sequence* const> planned() const;

  // `sampled[i]` belongs to slice i and is used when the slice reaches the end of the known tokens
  // and max_tokens > 0. kNoToken fails that sequence with FinishReason::kError. Returns one update
  // per slice that sampled or finished, valid until the next Plan.
  std::span<const SequenceUpdate> Commit(std::span<const TokenId> sampled);

  bool idle() const;
  const SchedulerStats& stats() const;
  // Forgets cached blocks; false, changing nothing, when a block is held.
  bool ResetPrefixCache();
  // Aborts when an invariant of docs/ARCHITECTURE.md does not hold. Cheap enough for idle rounds.
  void CheckIntegrity() const;
  // Every live sequence, waiting and running, for the cancel sweep: `visit` may Cancel its own.
  void ForEachSequence(const std::function<void(Sequence&)>& visit);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace kvs
