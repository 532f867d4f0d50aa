// HashIndex: block hash -> value, open addressing with linear probing. All memory is taken at
// construction. Not thread-safe. Value{} means "no entry" and cannot be stored.
#pragma once

#include <bit>
#include <cstdint>

#include "base/huge_pages.h"
#include "blocks/block_hash.h"
#include "kvserve/check.h"

namespace kvs {

template <class Value>
class HashIndex {
 public:
  explicit HashIndex(uint32_t max_num_entries)
      : max_num_entries_(max_num_entries),
        mask_(std::bit_ceil(uint64_t{max_num_entries} * 2 + 1) - 1),
        slots_(mask_ + 1) {}

  uint32_t size() const { return num_entries_; }

  // Value{} when absent.
  Value Find(const BlockHash& hash) const { return slots_[Locate(hash)].value; }

  // REQUIRES: absent; size() < max_num_entries; value is not Value{}.
  void Insert(const BlockHash& hash, Value value) {
    KVS_CHECK_OP(num_entries_, <, max_num_entries_);
    KVS_CHECK(value != Value{});
    Slot& slot = slots_[Locate(hash)];
    KVS_CHECK(slot.value == Value{});
    slot = {hash, value};
    ++num_entries_;
  }

  // REQUIRES: present.
  void Erase(const BlockHash& hash) {
    uint64_t hole = Locate(hash);
    KVS_CHECK(slots_[hole].value != Value{});
    // Close the gap: an entry may move back to the hole unless its home lies beyond it.
    for (uint64_t i = Next(hole); slots_[i].value != Value{}; i = Next(i)) {
      const uint64_t home = slots_[i].hash.low & mask_;
      if (((i - home) & mask_) >= ((i - hole) & mask_)) {
        slots_[hole] = slots_[i];
        hole = i;
      }
    }
    slots_[hole].value = Value{};
    --num_entries_;
  }

  void Clear() {
    for (Slot& slot : slots_) slot.value = Value{};
    num_entries_ = 0;
  }

  void Prefetch(const BlockHash& hash) const { __builtin_prefetch(&slots_[hash.low & mask_]); }

 private:
  struct alignas(32) Slot {  // in one cache line
    BlockHash hash;
    Value value{};
  };

  uint64_t Next(uint64_t i) const { return (i + 1) & mask_; }
  // The slot that holds `hash`, or the empty one where it would go. At most half are in use.
  uint64_t Locate(const BlockHash& hash) const {
    uint64_t i = hash.low & mask_;
    while (slots_[i].value != Value{} && slots_[i].hash != hash) i = Next(i);
    return i;
  }

  const uint32_t max_num_entries_;
  const uint64_t mask_;
  HugePageVector<Slot> slots_;
  uint32_t num_entries_ = 0;
};

}  // namespace kvs
