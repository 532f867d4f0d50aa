// RopeKvStore's work within decode attention (DecodePlan::rope), for sequences with one new token:
// each warp rotates the queries of its pair; the one that owns the newest token also rotates and
// encodes its K and V, stores them to the cache, and puts them into its tile once that has come. So
// a step has a launch less for each layer, and all that a block loads is older than the step.
#pragma once

#include <type_traits>

#include "gpu/kv_codec.cuh"
#include "gpu/paged_decode.cuh"
#include "gpu/rope_head.cuh"

namespace kvs::gpu {

// In one warp, of one pair at a time.
template <class Traits, class Act>
class DecodeNewToken {
 public:
  // `space`: shared memory of this warp, group * kHeadStride floats, which is its own from a pair's
  // RotateQueries to the last PutInto.
  KVS_DEVICE DecodeNewToken(const PagedAttentionParams& params, const DecodePlan& plan,
                            float* space)
      : params_(params),
        plan_(plan),
        space_(reinterpret_cast<uint8_t*>(space)),
        lane_(threadIdx.x % kWarpSize) {}

  // From one of queries() to the next, in elements: in other banks.
  static constexpr uint32_t kQueryStride = Traits::kHeadDim + 8;
  KVS_DEVICE const Act* queries() const { return reinterpret_cast<const Act*>(space_); }

  // K and V as the linear layer left them: this lane's part of one of them.
  struct Stored {
    Vec8<Act> low, high;
  };
  KVS_DEVICE Stored LoadKv(const DecodeCursor& at) const { return Load(at, KvUnit(at)); }

  // Puts the rotated queries of the pair at `at` to queries(), for all lanes.
  KVS_DEVICE void RotateQueries(const DecodeCursor& at) const {
    const uint32_t group = params_.num_heads / params_.kv.layout.num_kv_heads;
    for (uint32_t first = 0; first < group; first += kHeadsAtOnce) {
      const uint32_t head = first + lane_ / kLanes;
      // Lanes without a head repeat the last one: the warp stays whole.
      const uint32_t unit = at.kv_head * group + min(head, group - 1);
      const HeadPart part = Rotate(at, unit, Load(at, unit), plan_.rope.q_norm, true);
      Act* const to = reinterpret_cast<Act*>(space_) + head * kQueryStride;
      if (head < group) StorePart<Act, Traits::kHeadDim>(part, to, lane_ % kLanes);
    }
    SyncWarp();
  }

  // Encodes K and V of the newest token of the sequence at `at`, stores them to the cache, and
  // keeps them for PutInto, where the queries were.
  KVS_DEVICE void StoreKv(const DecodeCursor& at, const Stored& stored) const {
    const KvLayout& layout = params_.kv.layout;
    const uint32_t position = at.info.seq_len - 1;
    const BlockId block = params_.block_tables[size_t{at.seq} * params_.max_blocks_per_seq +
                                               (position >> layout.BlockShift())];
    HeadPart part = Rotate(at, KvUnit(at), stored, IsV() ? nullptr : plan_.rope.k_norm, !IsV());
    DivideBy((IsV() ? params_.kv.v_scale : params_.kv.k_scale)[at.kv_head], part);
    SyncWarp();  // All lanes have read the queries.
    uint32_t num_clipped = 0;
    if (lane_ < 2 * kLanes) {
      uint8_t* const row = space_ + (IsV() ? Traits::kRowBytes : 0);
      const uint32_t low = 8 * (lane_ % kLanes), high = low + Traits::kHeadDim / 2;
      num_clipped = EncodeEight(part.low, Traits::kDType, row, low) +
                    EncodeEight(part.high, Traits::kDType, row, high);
      if (block != kNullBlock) {
        const size_t plane =
            IsV() ? layout.VOffset(block, at.kv_head) : layout.KOffset(block, at.kv_head);
        const size_t to = plane + size_t{position & (layout.block_size - 1)} * Traits::kHeadDim;
        CopyEight(row, low, to);
        CopyEight(row, high, to);
      } else {
        num_clipped = 0;
      }
    }
    SyncWarp();
    if (!Traits::kIsFp8) return;
    num_clipped = WarpReduce(num_clipped, [](uint32_t a, uint32_t b) { return a + b; });
    if (num_clipped > 0 && lane_ == 0) atomicAdd(plan_.rope.num_saturated, num_clipped);
  }

  // Into a tile whose token `row` is the newest.
  KVS_DEVICE void PutInto(uint8_t* tile, uint32_t row) const {
#pragma unroll
    for (uint32_t i = lane_; i < 2 * Traits::kRowPieces; i += kWarpSize) {
      uint8_t* const plane = tile + i / Traits::kRowPieces * Traits::kPlaneBytes;
      const uint32_t to = SwizzledOffset<Traits::kRowBytes>(row, i % Traits::kRowPieces);
      *reinterpret_cast<uint4*>(plane + to) = reinterpret_cast<const uint4*>(space_)[i];
    }
    SyncWarp();
  }

 private:
  static constexpr uint32_t kLanes = Traits::kHeadDim / 16;  // that hold a head
  static constexpr uint32_t kHeadsAtOnce = kWarpSize / kLanes;
  static_assert(kHeadsAtOnce >= 2);  // K and V

  // Of K and V, this lane works on V.
  KVS_DEVICE bool IsV() const { return lane_ / kLanes % 2 != 0; }
  // Among the heads of Q, K and V.
  KVS_DEVICE uint32_t KvUnit(const DecodeCursor& at) const {
    return params_.num_heads + (IsV() ? params_.kv.layout.num_kv_heads : 0) + at.kv_head;
  }

  // This lane's part of a head.
  KVS_DEVICE Stored Load(const DecodeCursor& at, uint32_t unit) const {
    const uint32_t num_units = params_.num_heads + 2 * params_.kv.layout.num_kv_heads;
    const auto* head = static_cast<const Act*>(params_.qkv) +
                       (size_t{at.info.query_row} * num_units + unit) * Traits::kHeadDim;
    return {Vec8<Act>::Load(head, lane_ % kLanes), Vec8<Act>::Load(head, kLanes + lane_ % kLanes)};
  }

  KVS_DEVICE HeadPart Rotate(const DecodeCursor& at, uint32_t unit, const Stored& stored,
                             const float* norm, bool rotates) const {
    constexpr uint32_t kHeadDim = Traits::kHeadDim;
    const DecodeRope& rope = plan_.rope;
    const uint32_t lane = lane_ % kLanes;
    const HeadPart cos_sin =
        LoadPart<kHeadDim>(rope.cos_sin + size_t{at.info.seq_len - 1} * kHeadDim, lane);
    HeadPart part = ToFloats(stored.low, stored.high);
    if (rope.qkv_bias != nullptr) {
      Add(LoadPart<kHeadDim>(rope.qkv_bias + size_t{unit} * kHeadDim, lane), part);
    }
    if (rope.q_norm != nullptr || rope.k_norm != nullptr) {
      // Every lane takes part in the shuffles.
      const float factor = InverseRms<kHeadDim>(part, rope.norm_eps);
      if (norm != nullptr) Scale(factor, LoadPart<kHeadDim>(norm, lane), part);
    }
    if (rotates) gpu::Rotate(part, cos_sin);
    return part;
  }

  // Elements `element` and following of `row`, which this lane has encoded, to the cache.
  KVS_DEVICE void CopyEight(const uint8_t* row, uint32_t element, size_t to) const {
    using Piece = std::conditional_t<Traits::kIsFp8, uint2, uint4>;
    auto* const stored = static_cast<uint8_t*>(params_.kv.data) + (to + element) * Traits::kBytes;
    *reinterpret_cast<Piece*>(stored) =
        *reinterpret_cast<const Piece*>(row + element * Traits::kBytes);
  }

  const PagedAttentionParams& params_;
  const DecodePlan& plan_;
  uint8_t* const space_;
  const uint32_t lane_;
};

}  // namespace kvs::gpu
