// PrefixInFlight: hashes of the full blocks that running sequences are about to compute. A waiting
// sequence whose next uncached block is among them is held back until that block is cached, so that
// sequences with one prefix compute it once.
//
// A hash has one owner, the first to mark it. Not thread-safe; takes its memory at construction.
#pragma once

#include <cstdint>

#include "blocks/block_hash.h"
#include "blocks/hash_index.h"
#include "schedule/sequence.h"

namespace kvs {

class PrefixInFlight {
 public:
  // Every mark stands for a block that its owner holds: `num_blocks` marks are the most.
  explicit PrefixInFlight(uint32_t num_blocks) : owners_(num_blocks) {}

  // Marks blocks [begin, chain size) of a sequence that starts to run.
  void Mark(Sequence& owner, uint32_t begin);
  // Drops its marks on blocks [begin, end): they are cached, or it stops running.
  void Unmark(const Sequence& owner, uint32_t begin, uint32_t end);

  bool Contains(const BlockHash& hash) const { return owners_.Find(hash) != nullptr; }
  bool IsOwner(const Sequence& sequence, const BlockHash& hash) const {
    return owners_.Find(hash) == &sequence;
  }
  uint32_t size() const { return owners_.size(); }

 private:
  HashIndex<const Sequence*> owners_;
};

}  // namespace kvs
