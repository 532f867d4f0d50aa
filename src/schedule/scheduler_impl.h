// Inside of the Scheduler; included by scheduler*.cc alone.
#pragma once

#include <array>
#include <memory>
#include <span>
#include <vector>

#include "blocks/block_manager.h"
#include "schedule/prefix_in_flight.h"
#include "schedule/scheduler.h"
#include "schedule/sequence_queue.h"

namespace kvs {

// A planned step until its Commit. Its sequences stay valid that long.
struct OpenStep {
  std::vector<Sequence*> sequences;
  std::vector<uint32_t> num_new_tokens;
  std::vector<bool>
      reaches_end;  // of the known tokens: it samples, or ends without; by AdvanceStep
  bool has_advanced = false;
};

struct Scheduler::Impl {
  explicit Impl(const SchedulerConfig& scheduler_config);

  // scheduler_plan.cc: Plan, step by step.
  void PlanRunning();
  void PlanWaiting();
  // Adds the sequence's next tokens to the plan, at least one. REQUIRES: budget left.
  void AddSlice(Sequence& sequence, uint32_t num_new_tokens);
  uint32_t NumNewTokens(const Sequence& sequence) const;
  uint32_t NumLogitsRows(const Sequence& sequence, uint32_t num_new_tokens) const;
  // Blocks for the sequence's next tokens, preempting from the last; false when it was the last.
  bool MakeRoom(Sequence& sequence, uint32_t num_new_tokens);
  void PreemptLast();
  // Nothing is left to compute before its last token is committed.
  bool AwaitsCommit(const Sequence& sequence) const;

  // scheduler_admission.cc: from waiting to running.
  enum class Admission { kAdmitted, kHeldBack, kNoRoom };
  Admission TryAdmit(Sequence& sequence);
  bool ReadsPrefixCache(const Sequence& sequence) const;
  // The cached blocks it may use: at least one token stays to be computed.
  PrefixMatch UsablePrefix(Sequence& sequence, bool& is_full_hit);
  bool IsHeldBack(Sequence& sequence, const PrefixMatch& match) const;
  void RecordLookup(Sequence& sequence, bool is_full_hit);

  // scheduler_commit.cc: what a step has done.
  // Takes the step's tokens as computed; those that it samples are pending.
  void AdvanceStep(OpenStep& step);
  void Advance(Sequence& sequence, uint32_t num_new_tokens);
  // Gives back the blocks that no later query of the sequence sees.
  void ReleaseUnseen(Sequence& sequence);
  uint32_t NumUnseenBlocks(const Sequence& sequence) const;
  void ResolvePending(Sequence& sequence, size_t slice, TokenId token);
  void DropPending(Sequence& sequence) const;
  void Retire(Sequence& sequence);
  void StopRunning(Sequence& sequence);
  // Everything but the cache of a scheduler in which nothing runs.
  void TakeOver(Impl& old);
  void UpdateStats();

  // scheduler_integrity.cc.
  void CheckWaiting(const Sequence& sequence) const;
  void CheckRunning(const Sequence& sequence) const;
  void CheckIntegrity() const;

  bool caching() const { return config.enable_prefix_caching; }
  uint32_t block_size() const { return config.limits.block_size; }

  const SchedulerConfig config;
  BlockManager blocks;
  PrefixInFlight in_flight;
  SequenceQueue waiting;
  SequenceQueue running;                           // holds blocks, or is about to get its first
  std::vector<std::unique_ptr<Sequence>> retired;  // kept until a Plan that finds no step with them

  OpenStep& newest() { return open_steps[(first_open_step + num_open_steps - 1) % 2]; }
  OpenStep& oldest() { return open_steps[first_open_step]; }

  StepPlan plan;
  std::array<OpenStep, 2> open_steps;
  uint32_t first_open_step = 0;
  uint32_t num_open_steps = 0;
  uint32_t num_spare_rows = 0;  // of logits, beyond one for each sequence of this Plan
  std::vector<SequenceUpdate> updates;
  std::vector<Sequence*> visit_scratch;
  SchedulerStats stats;
  uint64_t num_evicted_before = 0;  // by pools that were replaced
  uint64_t num_collisions_before = 0;
};

}  // namespace kvs
