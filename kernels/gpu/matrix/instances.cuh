// What the files of matrix/instances instantiate: the kernels of matrix/ under the names that the
// tables of paged_decode_instances.h and paged_prefill.cu choose from. (The former is not included
// here: it would instantiate all of them in every file.)
#pragma once

#include "gpu/matrix/paged_decode.cuh"
#include "gpu/matrix/paged_prefill.cuh"
#include "gpu/paged_prefill_instances.h"

namespace kvs::gpu {

// One kernel serves up to 16 query heads per KV head, whatever the number of head tiles.
template <KvCacheDType dtype, uint32_t kHeadDim, uint32_t kHeadTiles>
void RunPagedDecode(const PagedAttentionParams& params, const DecodePlan& plan,
                    const Launch& launch) {
  RunMatrixDecode<dtype, kHeadDim>(params, plan, launch);
}

template <KvCacheDType dtype, uint32_t kHeadDim>
void RunPortablePrefill(const PagedAttentionParams& params, const PrefillTiles& tiles,
                        const PrefillGrid& grid, const Launch& launch) {
  RunMatrixPrefill<dtype, kHeadDim>(params, tiles, grid, launch);
}

}  // namespace kvs::gpu

#define KVS_MATRIX_DECODE(dtype, head_dim)                                                      \
  template void kvs::gpu::RunPagedDecode<dtype, head_dim, 1>(const PagedAttentionParams&,       \
                                                             const DecodePlan&, const Launch&); \
  template void kvs::gpu::RunPagedDecode<dtype, head_dim, 2>(const PagedAttentionParams&,       \
                                                             const DecodePlan&, const Launch&)
#define KVS_MATRIX_PREFILL(dtype, head_dim)                    \
  template void kvs::gpu::RunPortablePrefill<dtype, head_dim>( \
      const PagedAttentionParams&, const PrefillTiles&, const PrefillGrid&, const Launch&)
