#include "gpu/attention.h"

#include <algorithm>
#include <string>

#include "gpu/gpu_memory.h"

namespace kvs::gpu {

Result<void> AttentionOp::CheckSupport(const KvLayout& layout, uint32_t num_heads,
                                       const DeviceFacts& facts) {
  if (layout.dtype == KvCacheDType::kF32) {
    return kvs::Error(Code::kInvalidArgument,
                      "--kv-cache-dtype: a float32 cache is served by the CPU alone; expected "
                      "bfloat16, float16, fp8_e4m3 or fp8_e5m2",
                      "--kv-cache-dtype");
  }
  if (layout.head_dim != 64 && layout.head_dim != 128 && layout.head_dim != 256) {
    return kvs::Error(Code::kDataError, "attention: the model's head_dim is " +
                                            std::to_string(layout.head_dim) +
                                            "; this device's kernels serve 64, 128 and 256");
  }
  const uint32_t group = num_heads / layout.num_kv_heads;
  if (group > std::min(kDecodeMaxGroup, kPrefillMaxGroup)) {
    return kvs::Error(Code::kDataError, "attention: " + std::to_string(group) +
                                            " query heads share a KV head; this device's kernels "
                                            "serve at most " +
                                            std::to_string(kDecodeMaxGroup));
  }
  if (!ChooseDecodeShape(layout.dtype, layout.head_dim, group, UINT32_MAX, facts)) {
    return kvs::Error(Code::kDataError,
                      "attention: this device's blocks may have " +
                          std::to_string(facts.max_shared_bytes) +
                          " bytes of shared memory, too few for head_dim " +
                          std::to_string(layout.head_dim) + " with " + std::to_string(group) +
                          " query heads to a KV head; use another device, or --device cpu");
  }
  return {};
}

Result<void> AttentionOp::Reserve(const BackendLimits& limits, const DeviceFacts& facts,
                                  bool batch_invariant) {
  batch_invariant_ = batch_invariant;
  const uint32_t group = limits.num_heads / limits.num_kv_heads;
  uint32_t max_tiles = 0;
  for (const PrefillPath path : {PrefillPath::kPortable, PrefillPath::kHopper}) {
    max_tiles = std::max(max_tiles, MaxPrefillTiles(path, group, limits.max_num_batched_tokens,
                                                    limits.max_num_seqs));
  }
  PrefillSplit split{};
  if (!batch_invariant) {
    split.target =
        std::max(1u, static_cast<uint32_t>(facts.num_multiprocessors) / limits.num_kv_heads);
    const size_t rows =
        size_t{split.MaxParts()} * limits.num_kv_heads *
        std::max(PrefillTileRows(PrefillPath::kPortable), PrefillTileRows(PrefillPath::kHopper));
    auto memory = AllocateDevice(rows * (limits.head_dim * sizeof(float) + sizeof(float2)),
                                 "partial results of prefill attention");
    if (!memory) return tl::unexpected(memory.error());
    split_memory_ = std::move(*memory);
    split.out = split_memory_.as<float>();
    split.state = reinterpret_cast<float2*>(split.out + rows * limits.head_dim);
  }
  for (Plan& plan : plans_) {
    KVS_RETURN_IF_ERROR(plan.decode.Reserve(limits, facts));
    const size_t merges_bytes = split.MaxParts() * sizeof(PrefillMerge);
    const size_t tiles_bytes = (max_tiles + split.MaxParts()) * sizeof(PrefillTile);
    auto memory = AllocateDevice(256 + merges_bytes + tiles_bytes, "prefill plan");
    if (!memory) return tl::unexpected(memory.error());
    plan.prefill_memory = std::move(*memory);
    plan.prefill.count = plan.prefill_memory.as<uint32_t>();
    plan.prefill.split = split;
    plan.prefill.split.num_merges = plan.prefill.count + 1;
    plan.prefill.split.merges =
        reinterpret_cast<PrefillMerge*>(plan.prefill_memory.as<uint8_t>() + 256);
    plan.prefill.tiles =
        reinterpret_cast<PrefillTile*>(plan.prefill.split.merges + split.MaxParts());
  }
  return {};
}

void AttentionOp::BeginStep() {
  for (Plan& plan : plans_) plan.is_made = false;
}

AttentionOp::Plan& AttentionOp::PlanFor(const PagedAttentionParams& params) {
  const KvLayout& layout = params.kv.layout;
  return plans_[(params.window != 0 ? 2 : 0) + (SizeOf(layout.dtype) == 1 ? 1 : 0)];
}

void AttentionOp::MakePlan(const PagedAttentionParams& params, const Launch& launch, Plan& plan) {
  plan.is_made = true;
  plan.prefill.path = BestPrefillPath(params.kv.layout, *launch.facts);
  if (batch_invariant_ || params.num_tokens > params.num_seqs) {
    PlanPrefill(params, batch_invariant_ ? 1 : 2, plan.prefill, launch);
  }
  if (!batch_invariant_) plan.decode.Plan(params, launch);
}

bool AttentionOp::FusesRope() const { return !batch_invariant_ && DecodeFusesRope(); }

void AttentionOp::Run(const PagedAttentionParams& params, uint64_t* num_saturated,
                      const Launch& launch) {
  KVS_CHECK(params.rope == nullptr || FusesRope());
  Plan& plan = PlanFor(params);
  Launch after_plan = launch;
  if (!plan.is_made) {
    MakePlan(params, launch, plan);
    // The kernels read their plan before they wait for the kernel in front, which here is the
    // planner.
    after_plan.dependent = false;
  }
  if (batch_invariant_ || params.num_tokens > params.num_seqs) {
    PagedPrefill(params, plan.prefill, after_plan);
  }
  if (!batch_invariant_) plan.decode.Run(params, num_saturated, after_plan);
}

}  // namespace kvs::gpu
