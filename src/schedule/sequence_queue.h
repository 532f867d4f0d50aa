// SequenceQueue: owns sequences in scheduling order. fcfs: by arrival, then id; priority: by
// (priority, arrival, id). Both the waiting and the running sequences stand in one: whoever is
// first is served first, whoever is last is preempted first, and no two sequences disagree.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "kvserve/options.h"
#include "schedule/sequence.h"

namespace kvs {

// Whether `a` is served before `b`. A strict order; equals stay in the order of their insertion.
bool RunsBefore(SchedulingPolicy policy, const Sequence& a, const Sequence& b);

class SequenceQueue {
 public:
  explicit SequenceQueue(SchedulingPolicy policy) : policy_(policy) {}

  void Reserve(size_t num_sequences) { sequences_.reserve(num_sequences); }
  void Insert(std::unique_ptr<Sequence> sequence);
  // Takes a member out. REQUIRES: `sequence` is in the queue.
  std::unique_ptr<Sequence> Take(const Sequence& sequence);
  std::unique_ptr<Sequence> TakeAt(size_t idx);

  bool empty() const { return sequences_.empty(); }
  size_t size() const { return sequences_.size(); }
  Sequence& operator[](size_t idx) const { return *sequences_[idx]; }
  Sequence& back() const { return *sequences_.back(); }

  // Aborts unless in order.
  void CheckIntegrity() const;

 private:
  const SchedulingPolicy policy_;
  std::vector<std::unique_ptr<Sequence>> sequences_;
};

}  // namespace kvs
