#include "gpu/paged_decode_kernel.cuh"

namespace kvs::gpu {

template void RunPagedDecode<KvCacheDType::kF8E5M2, 64, 1>(const PagedAttentionParams&,
                                                           const DecodePlan&, const Launch&);
template void RunPagedDecode<KvCacheDType::kF8E5M2, 64, 2>(const PagedAttentionParams&,
                                                           const DecodePlan&, const Launch&);

}  // namespace kvs::gpu
