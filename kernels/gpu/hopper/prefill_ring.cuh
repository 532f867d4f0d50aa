// The ring of K and V tiles in shared memory that the warpgroups of Hopper's prefill kernel share.
#pragma once

#include <type_traits>

#include "gpu/hopper/barrier.cuh"
#include "gpu/kv_read.cuh"
#include "gpu/paged_prefill_instances.h"

namespace kvs::gpu::hopper {

template <KvCacheDType dtype, uint32_t kHeadDim_>
struct PrefillTraits {
  using Read = KvRead<dtype>;
  using Compute = typename Read::Compute;
  static constexpr bool kIsFp8 = SizeOf(dtype) == 1;
  static constexpr uint32_t kHeadDim = kHeadDim_;
  static constexpr uint32_t kPositions = 128;          // of a tile
  static constexpr uint32_t kBlocks = kPositions / 8;  // of 8 columns of scores
  static constexpr uint32_t kConsumers = 2;            // warpgroups of 64 rows
  static constexpr uint32_t kThreads = (1 + kConsumers) * kWarpgroupThreads;
  static constexpr uint32_t kPanelBytes = kPositions * 128;
  static constexpr uint32_t kTileBytes = kPositions * kHeadDim * 2;
  // A slot holds K or V of one tile.
  static constexpr uint32_t kSlots = 6;
  static constexpr uint32_t kRawStages = kIsFp8 ? 2 : 0;  // K or V of a tile each
  static constexpr uint32_t kWarpRawBytes = kPositions / 4 * kHeadDim;
  static constexpr uint32_t kRawAt = kSlots * kTileBytes;
  static constexpr uint32_t kBarriersAt = kRawAt + 4 * kRawStages * kWarpRawBytes;
  static constexpr uint32_t kBarriers = 2 * kSlots + (kIsFp8 ? 4 * kRawStages : 1);
  static constexpr uint32_t kSharedBytes = kBarriersAt + kBarriers * sizeof(SharedBarrier);
  // Together what the block starts with: 168 for each thread.
  static constexpr uint32_t kProducerRegisters = kIsFp8 ? 56 : 24;
  static constexpr uint32_t kConsumerRegisters = kIsFp8 ? 224 : 240;
  static_assert(kConsumers * 64 == kHopperPrefillRows);
};

// A place in the ring.
template <uint32_t kSlots>
struct RingCursor {
  uint32_t slot = 0;
  uint32_t parity = 0;

  KVS_DEVICE void Advance(uint32_t by) {
    slot += by;
    if (slot < kSlots) return;
    slot -= kSlots;
    parity ^= 1;
  }
};

template <class Traits>
struct Ring {
  using Cursor = RingCursor<Traits::kSlots>;
  uint8_t* shared;

  KVS_DEVICE uint8_t* Slot(Cursor at) const { return shared + at.slot * Traits::kTileBytes; }
  // Codes of one producing warp: its rows of K or V.
  KVS_DEVICE uint8_t* RawSlot(uint32_t warp, uint32_t stage) const {
    return shared + Traits::kRawAt + (4 * stage + warp) * Traits::kWarpRawBytes;
  }
  KVS_DEVICE SharedBarrier& Full(Cursor at) const { return Barriers()[at.slot]; }
  KVS_DEVICE SharedBarrier& Empty(Cursor at) const { return Barriers()[Traits::kSlots + at.slot]; }
  // FP8: whether the codes have come. 16 bits: whether values to be cut have.
  KVS_DEVICE SharedBarrier& Raw(uint32_t warp, uint32_t stage) const {
    return Barriers()[2 * Traits::kSlots + 4 * stage + warp];
  }
  KVS_DEVICE SharedBarrier& Tail() const { return Barriers()[2 * Traits::kSlots]; }

  // By one thread.
  KVS_DEVICE void Init() const {
    for (uint32_t i = 0; i < Traits::kSlots; ++i) {
      Full({i}).Init(Traits::kIsFp8 ? 4 : 1);
      Empty({i}).Init(Traits::kConsumers * kWarpgroupThreads / kWarpSize);
    }
    for (uint32_t i = 2 * Traits::kSlots; i < Traits::kBarriers; ++i) Barriers()[i].Init(1);
  }

  KVS_DEVICE void WaitFull(Cursor at) const { Full(at).Wait(at.parity); }
  KVS_DEVICE void WaitEmpty(Cursor at) const { Empty(at).Wait(at.parity ^ 1); }
  // By every consuming warp, when its products have read the slot.
  KVS_DEVICE void MarkEmpty(Cursor at) const {
    if (threadIdx.x % kWarpSize == 0) Empty(at).Arrive();
  }

 private:
  KVS_DEVICE SharedBarrier* Barriers() const {
    return reinterpret_cast<SharedBarrier*>(shared + Traits::kBarriersAt);
  }
};

}  // namespace kvs::gpu::hopper
