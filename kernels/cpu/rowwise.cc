#include "cpu/rowwise.h"

#include <algorithm>
#include <atomic>

#include "cpu/kv_stats.h"

namespace kvs::cpu {
namespace {

// Below about this many elements, waking another thread costs more than it saves.
constexpr size_t kElementsPerTask = 16384;

// Calls fn(begin, end) over [0, count), in parallel where count * unit elements are worth it.
template <class Fn>
void ForEachPiece(size_t count, size_t unit, ThreadPool& pool, const Fn& fn) {
  const size_t per_task = std::max<size_t>(1, kElementsPerTask / unit);
  const auto num_tasks = static_cast<uint32_t>((count + per_task - 1) / per_task);
  pool.ParallelFor(num_tasks, [&](uint32_t task, uint32_t) {
    const size_t begin = task * per_task;
    fn(begin, std::min(begin + per_task, count));
  });
}

}  // namespace

void RowwiseOps::AddRmsNorm(const AddRmsNormParams& params, ThreadPool& pool) const {
  ForEachPiece(params.num_rows, params.dim, pool, [&](size_t begin, size_t end) {
    for (size_t row = begin; row < end; ++row) {
      const size_t offset = row * params.dim;
      kernels_.add_rms_norm(
          static_cast<float*>(params.residual) + offset,
          params.x == nullptr ? nullptr : static_cast<const float*>(params.x) + offset,
          params.weight, static_cast<float*>(params.out) + offset, params.dim, params.eps);
    }
  });
}

void RowwiseOps::SiluMul(const SiluMulParams& params, ThreadPool& pool) const {
  ForEachPiece(params.num_rows, params.dim, pool, [&](size_t begin, size_t end) {
    for (size_t row = begin; row < end; ++row) {
      const float* gate = static_cast<const float*>(params.gate_up) + row * 2 * params.dim;
      kernels_.silu_mul(gate, gate + params.dim, static_cast<float*>(params.out) + row * params.dim,
                        params.dim);
    }
  });
}

void RowwiseOps::PrepareHeads(const RopeKvStoreParams& params, size_t token, float* row) const {
  const uint32_t head_dim = params.kv.layout.head_dim;
  const uint32_t num_kv_heads = params.kv.layout.num_kv_heads;
  const float* cos_sin = params.cos_sin + size_t{params.positions[token]} * head_dim;
  if (params.qkv_bias != nullptr) {
    const size_t dim = (size_t{params.num_heads} + 2 * num_kv_heads) * head_dim;
    for (size_t i = 0; i < dim; ++i) row[i] += params.qkv_bias[i];
  }
  for (uint32_t head = 0; head < params.num_heads + num_kv_heads; ++head) {
    float* const at = row + size_t{head} * head_dim;
    const float* norm = head < params.num_heads ? params.q_norm : params.k_norm;
    if (norm != nullptr) {
      kernels_.add_rms_norm(at, nullptr, norm, at, head_dim, params.norm_eps);
    }
    kernels_.rotate(at, cos_sin, head_dim / 2);
  }
}

uint64_t RowwiseOps::StoreKv(const RopeKvStoreParams& params, size_t token,
                             const float* row) const {
  const KvLayout& layout = params.kv.layout;
  const size_t element = SizeOf(layout.dtype);
  const float* const k = row + size_t{params.num_heads} * layout.head_dim;
  const float* const v = k + size_t{layout.num_kv_heads} * layout.head_dim;
  const uint32_t slot = params.slot_mapping[token].value;
  const BlockId block{slot / layout.block_size};
  const size_t in_plane = size_t{slot % layout.block_size} * layout.head_dim;
  auto* const data = static_cast<uint8_t*>(params.kv.data);
  uint64_t clipped = 0;
  for (uint32_t head = 0; head < layout.num_kv_heads; ++head) {
    const size_t from = size_t{head} * layout.head_dim;
    clipped += kernels_.encode_kv(k + from, layout.head_dim, layout.dtype, params.kv.k_scale[head],
                                  data + (layout.KOffset(block, head) + in_plane) * element);
    clipped += kernels_.encode_kv(v + from, layout.head_dim, layout.dtype, params.kv.v_scale[head],
                                  data + (layout.VOffset(block, head) + in_plane) * element);
  }
  return clipped;
}

void RowwiseOps::RopeKvStore(const RopeKvStoreParams& params, ThreadPool& pool) const {
  const size_t row_len =
      (size_t{params.num_heads} + 2 * params.kv.layout.num_kv_heads) * params.kv.layout.head_dim;
  std::atomic<uint64_t> num_saturated{0};
  ForEachPiece(params.num_tokens, row_len, pool, [&](size_t begin, size_t end) {
    uint64_t clipped = 0;
    for (size_t token = begin; token < end; ++token) {
      float* const row = static_cast<float*>(params.qkv) + token * row_len;
      PrepareHeads(params, token, row);
      clipped += StoreKv(params, token, row);
    }
    num_saturated.fetch_add(clipped, std::memory_order_relaxed);
  });
  *params.num_saturated += num_saturated.load(std::memory_order_relaxed);
  if (params.kv.stats.largest_bits != nullptr) GatherKvStats(params, pool);
}

}  // namespace kvs::cpu
