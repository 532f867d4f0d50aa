#include "schedule/prefix_in_flight.h"

#include <algorithm>

namespace kvs {

void PrefixInFlight::Mark(Sequence& owner, uint32_t begin) {
  SequenceState& state = owner.scheduler_state;
  for (uint32_t i = begin; i < state.chain.size(); ++i) {
    if (!Contains(state.chain[i])) owners_.Insert(state.chain[i], &owner);
  }
  state.end_in_flight = state.chain.size();
}

void PrefixInFlight::Unmark(const Sequence& owner, uint32_t begin, uint32_t end) {
  const SequenceState& state = owner.scheduler_state;
  for (uint32_t i = begin; i < std::min(end, state.end_in_flight); ++i) {
    if (IsOwner(owner, state.chain[i])) owners_.Erase(state.chain[i]);
  }
}

}  // namespace kvs
