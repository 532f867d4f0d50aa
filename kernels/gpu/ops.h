// The operations of a GPU, one a file: device code and the function that launches it. Params and
// contracts are those of kvserve/kernel_params.h; pointers are to device memory. A launcher
// enqueues on launch.stream and returns; it allocates nothing and may be captured into a graph.
#pragma once

#include <cstdint>

#include "gpu/launch.h"
#include "kvserve/kernel_params.h"

namespace kvs::gpu {

// embed.cu. The table is row-major.
void Embed(const EmbedParams& params, const Launch& launch);
// rms_norm.cu
void AddRmsNorm(const AddRmsNormParams& params, const Launch& launch);
// rope_kv_store.cu. `num_saturated` is device memory and stands in for params.num_saturated.
void RopeKvStore(const RopeKvStoreParams& params, uint64_t* num_saturated, const Launch& launch);
// silu_mul.cu
void SiluMul(const SiluMulParams& params, const Launch& launch);
// gather_rows.cu
void GatherRows(const GatherRowsParams& params, const Launch& launch);

}  // namespace kvs::gpu
