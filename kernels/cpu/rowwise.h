// The ops that touch each element once: normalization, activation, rotation, and the encoding of
// new keys and values. Kernels work on one row (or a piece of one); the ops share rows out to
// threads.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cpu/thread_pool.h"
#include "kvserve/kernel_params.h"

namespace kvs::cpu {

struct RowwiseKernels {
  // One row of AddRmsNorm; x may be null, and out may be residual.
  void (*add_rms_norm)(float* residual, const float* x, const float* weight, float* out,
                       uint32_t dim, float eps);
  // out[i] = silu(gate[i]) * up[i].
  void (*silu_mul)(const float* gate, const float* up, float* out, size_t n);
  // Rotates one head in place: pairs (i, i + half) by the angle whose cosine is cos_sin[i] and sine
  // cos_sin[half + i]. No fused multiply-add: the same bits on every instruction set.
  void (*rotate)(float* head, const float* cos_sin, uint32_t half);
  // Encodes in[i] / scale as KvCacheDType; returns how many were clipped to the largest FP8 code.
  uint64_t (*encode_kv)(const float* in, uint32_t n, KvCacheDType dtype, float scale, void* out);
};

class RowwiseOps {
 public:
  explicit RowwiseOps(const RowwiseKernels& kernels) : kernels_(kernels) {}

  void AddRmsNorm(const AddRmsNormParams& params, ThreadPool& pool) const;
  void SiluMul(const SiluMulParams& params, ThreadPool& pool) const;
  void RopeKvStore(const RopeKvStoreParams& params, ThreadPool& pool) const;

 private:
  // Bias, norm and rotation of one token's Q, K and V.
  void PrepareHeads(const RopeKvStoreParams& params, size_t token, float* row) const;
  // Returns how many elements were clipped.
  uint64_t StoreKv(const RopeKvStoreParams& params, size_t token, const float* row) const;

  const RowwiseKernels& kernels_;
};

}  // namespace kvs::cpu
