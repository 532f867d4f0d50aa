#include "gpu/attention.h"

#include <algorithm>
#include <string>

#include "gpu/gpu_memory.h"

namespace kvs::gpu {

Result<void> AttentionOp::CheckSupport(const KvLayout& layout, uint32_t num_heads,
                                       const DeviceFacts&) {
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
  for (Plan& plan : plans_) {
    KVS_RETURN_IF_ERROR(plan.decode.Reserve(limits, facts));
    auto memory = AllocateDevice(max_tiles * sizeof(PrefillTile) + 256, "prefill plan");
    if (!memory) return tl::unexpected(memory.error());
    plan.prefill_memory = std::move(*memory);
    plan.prefill.count = plan.prefill_memory.as<uint32_t>();
    plan.prefill.tiles = reinterpret_cast<PrefillTile*>(plan.prefill_memory.as<uint8_t>() + 256);
  }
  return {};
}

void AttentionOp::BeginStep() {
  for (Plan& plan : plans_) plan.is_made = false;
}

AttentionOp::Plan& AttentionOp::PlanFor(const PagedAttentionParams& params) {
  const KvLayout& layout = params.kv.layout;
  const bool long_tiles = DecodeTileTokens(layout.dtype, layout.head_dim) > 64;
  return plans_[(params.window != 0 ? 2 : 0) + (long_tiles ? 1 : 0)];
}

void AttentionOp::MakePlan(const PagedAttentionParams& params, const Launch& launch, Plan& plan) {
  plan.is_made = true;
  plan.prefill.path = BestPrefillPath(params.kv.layout, *launch.facts);
  if (batch_invariant_ || params.num_tokens > params.num_seqs) {
    PlanPrefill(params, batch_invariant_ ? 1 : 2, plan.prefill, launch);
  }
  if (!batch_invariant_) plan.decode.Plan(params, launch);
}

void AttentionOp::Run(const PagedAttentionParams& params, const Launch& launch) {
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
  if (!batch_invariant_) plan.decode.Run(params, after_plan);
}

}  // namespace kvs::gpu
