// Inside of the Scheduler; included by scheduler*.cc alone.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "blocks/block_manager.h"
#include "schedule/prefix_in_flight.h"
#include "schedule/scheduler.h"
#include "schedule/sequence_queue.h"

namespace kvs {

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

  // scheduler_admission.cc: from waiting to running.
  enum class Admission { kAdmitted, kHeldBack, kNoRoom };
  Admission TryAdmit(Sequence& sequence);
  bool ReadsPrefixCache(const Sequence& sequence) const;
  // The cached blocks it may use: at least one token stays to be computed.
  PrefixMatch UsablePrefix(Sequence& sequence, bool& is_full_hit);
  bool IsHeldBack(Sequence& sequence, const PrefixMatch& match) const;
  void RecordLookup(Sequence& sequence, bool is_full_hit);

  // scheduler.cc: Commit and the rest.
  void Advance(Sequence& sequence, uint32_t num_new_tokens);
  // Gives back the blocks that no later query of the sequence sees.
  void ReleaseUnseen(Sequence& sequence);
  uint32_t NumUnseenBlocks(const Sequence& sequence) const;
  void AppendSampled(Sequence& sequence, TokenId token);
  void RetireFinished();
  void StopRunning(Sequence& sequence);
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
  std::vector<std::unique_ptr<Sequence>> retired;  // kept until the next Plan

  StepPlan plan;
  std::vector<Sequence*> planned;
  bool plan_is_open = false;    // between Plan and Commit
  uint32_t num_spare_rows = 0;  // of logits, beyond one for each sequence of this Plan
  std::vector<SequenceUpdate> updates;
  std::vector<Sequence*> visit_scratch;
  SchedulerStats stats;
};

}  // namespace kvs
