#include <utility>

#include "gpu/paged_decode.cuh"

namespace kvs::gpu {

// Few pairs of a sequence and a KV head are shared by many blocks, whose number is what merging
// costs, so that then blocks are larger.
std::optional<DecodeShape> ChooseDecodeShape(KvCacheDType dtype, uint32_t head_dim, uint32_t group,
                                             uint32_t num_pairs, const DeviceFacts& facts) {
  const auto processors = static_cast<uint32_t>(facts.num_multiprocessors);
  const uint32_t stages = DecodeStages(dtype, head_dim);
  const std::pair<uint32_t, uint32_t> candidates[] = {
      {num_pairs <= processors ? 8 : 4, stages}, {4, stages}, {4, 2}, {2, stages}, {2, 2}, {1, 2}};
  for (const auto& [num_warps, num_stages] : candidates) {
    // Behind the stages, the warps' states (paged_decode_merge.cuh).
    const uint32_t bytes = num_warps * num_stages * DecodeStageBytes(dtype, head_dim) +
                           num_warps * group * (DecodeHeadStride(dtype, head_dim) + 2) * 4;
    for (uint32_t ctas = num_warps > 4 ? 1 : kDecodeMaxCtasPerSm; ctas != 0; --ctas) {
      if (ctas * (bytes + kDecodeSharedReserve) > facts.max_shared_bytes) continue;
      return DecodeShape{num_warps * DecodeWarpTokens(dtype, head_dim),
                         num_warps > 4,
                         num_warps,
                         num_stages,
                         processors * ctas,
                         bytes};
    }
  }
  return std::nullopt;
}

bool DecodeFusesRope() { return true; }

}  // namespace kvs::gpu
