#include "gpu/experts.h"

#include <algorithm>
#include <string>
#include <utility>

#include "gpu/gpu_memory.h"
#include "gpu/gpu_weight.h"

namespace kvs::gpu {

Result<void> ExpertOps::Reserve(const BackendLimits& limits) {
  const ExpertsConfig& experts = limits.experts;
  if (experts.num_experts == 0) return {};
  if (experts.num_experts > kMaxExperts || experts.num_per_token > kMaxTopK) {
    return kvs::Error(Code::kInvalidArgument,
                      "num_experts " + std::to_string(experts.num_experts) +
                          ", num_experts_per_tok " + std::to_string(experts.num_per_token) +
                          ": this device serves at most " + std::to_string(kMaxExperts) + " and " +
                          std::to_string(kMaxTopK) + "; use --device cpu");
  }
  max_rows_ = limits.max_num_batched_tokens * experts.num_per_token;
  const std::pair<DeviceBuffer*, size_t> sizes[] = {
      {&order_, max_rows_ * sizeof(uint32_t)},
      {&tiles_, (size_t{max_rows_} + experts.num_experts) * sizeof(ExpertTile)},
      {&num_tiles_, sizeof(uint32_t)}};
  for (const auto& [buffer, bytes] : sizes) {
    auto memory = AllocateDevice(bytes, "expert scratch");
    if (!memory) return tl::unexpected(memory.error());
    *buffer = std::move(*memory);
  }
  return {};
}

void ExpertOps::Route(const RouteExpertsParams& params, const Launch& launch) const {
  KVS_CHECK_OP(params.num_experts, <=, kMaxExperts);
  KVS_CHECK_OP(params.top_k, <=, std::min(kMaxTopK, params.num_experts));
  RouteExperts(params, launch);
}

void ExpertOps::Linear(const ExpertLinearParams& params, const Launch& launch) const {
  KVS_CHECK_OP(params.num_rows, <=, max_rows_);
  KVS_CHECK_OP(params.num_experts, <=, kMaxExperts);
  ExpertGemm gemm{};
  gemm.x = params.x;
  gemm.out = params.out;
  gemm.rows_per_x = params.rows_per_x;
  gemm.in_features = params.experts[0]->in_features;
  gemm.out_features = params.experts[0]->out_features;
  KVS_CHECK_OP(gemm.in_features % 8, ==, 0u);
  for (uint32_t i = 0; i < params.num_experts; ++i) {
    const auto& weight = static_cast<const GpuWeight&>(*params.experts[i]);
    KVS_CHECK(weight.dtype == launch.act);
    gemm.weights[i] = weight.data.data();
  }
  gemm.tiling = {.expert_ids = params.expert_ids,
                 .order = order_.as<uint32_t>(),
                 .tiles = tiles_.as<ExpertTile>(),
                 .num_tiles = num_tiles_.as<uint32_t>(),
                 .num_rows = params.num_rows,
                 .num_experts = params.num_experts,
                 .tile_rows = ExpertTileRows(params.num_rows, params.num_experts)};
  TileExperts(gemm.tiling, launch);
  MultiplyExperts(gemm, launch);
}

void ExpertOps::Combine(const CombineExpertsParams& params, const Launch& launch) const {
  KVS_CHECK_OP(params.dim % 8, ==, 0u);
  CombineExperts(params, launch);
}

}  // namespace kvs::gpu
