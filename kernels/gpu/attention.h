// PagedAttention of a GPU: which kernel serves which sequence, and the plans they follow.
#pragma once

#include <array>
#include <cstdint>

#include "gpu/launch.h"
#include "gpu/paged_decode.h"
#include "gpu/paged_prefill.h"
#include "kvserve/backend.h"
#include "kvserve/kernel_params.h"

namespace kvs::gpu {

class AttentionOp {
 public:
  // kInvalidArgument or kDataError for a shape that no kernel serves.
  static Result<void> CheckSupport(const KvLayout& layout, uint32_t num_heads,
                                   const DeviceFacts& facts);

  // Takes all memory. With `batch_invariant` every sequence goes the way of prefill, whose rows
  // depend on nothing but themselves.
  Result<void> Reserve(const BackendLimits& limits, const DeviceFacts& facts, bool batch_invariant);
  // The plans hold no longer.
  void BeginStep();
  // Whether Run takes PagedAttentionParams::rope.
  bool FusesRope() const;
  // Plans first, where this step's plan for these layers is still missing. `num_saturated`: where
  // params.rope counts; device memory.
  void Run(const PagedAttentionParams& params, uint64_t* num_saturated, const Launch& launch);

 private:
  // Layers of one kind: with or without a window, and of one size of KV elements.
  struct Plan {
    bool is_made = false;
    PagedDecode decode;
    DeviceBuffer prefill_memory;
    PrefillTiles prefill{};
  };
  Plan& PlanFor(const PagedAttentionParams& params);
  void MakePlan(const PagedAttentionParams& params, const Launch& launch, Plan& plan);

  bool batch_invariant_ = false;
  DeviceBuffer split_memory_;  // partial results of one layer's prefill
  std::array<Plan, 4> plans_;
};

}  // namespace kvs::gpu
