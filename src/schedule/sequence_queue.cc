#include "schedule/sequence_queue.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "kvserve/check.h"

namespace kvs {

bool RunsBefore(SchedulingPolicy policy, const Sequence& a, const Sequence& b) {
  const auto key = [policy](const Sequence& sequence) {
    const Request& request = sequence.request;
    const int32_t priority = policy == SchedulingPolicy::kPriority ? request.priority : 0;
    return std::tuple(priority, request.arrival, request.id);
  };
  return key(a) < key(b);
}

void SequenceQueue::Insert(std::unique_ptr<Sequence> sequence) {
  const auto runs_before = [this](const auto& a, const auto& b) {
    return RunsBefore(policy_, *a, *b);
  };
  const auto position =
      std::upper_bound(sequences_.begin(), sequences_.end(), sequence, runs_before);
  sequences_.insert(position, std::move(sequence));
}

std::unique_ptr<Sequence> SequenceQueue::Take(const Sequence& sequence) {
  const auto it = std::find_if(sequences_.begin(), sequences_.end(),
                               [&](const auto& member) { return member.get() == &sequence; });
  KVS_CHECK(it != sequences_.end());
  return TakeAt(static_cast<size_t>(it - sequences_.begin()));
}

std::unique_ptr<Sequence> SequenceQueue::TakeAt(size_t idx) {
  KVS_CHECK_OP(idx, <, sequences_.size());
  const auto it = sequences_.begin() + static_cast<std::ptrdiff_t>(idx);
  std::unique_ptr<Sequence> taken = std::move(*it);
  sequences_.erase(it);
  return taken;
}

void SequenceQueue::CheckIntegrity() const {
  for (size_t i = 1; i < sequences_.size(); ++i) {
    KVS_CHECK(!RunsBefore(policy_, *sequences_[i], *sequences_[i - 1]));
  }
}

}  // namespace kvs
