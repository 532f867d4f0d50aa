#include "gpu/paged_decode_kernel.cuh"

namespace kvs::gpu {

template void RunPagedDecode<KvCacheDType::kF8E4M3, 256, 1>(const PagedAttentionParams&,
                                                            const DecodePlan&, const Launch&);
template void RunPagedDecode<KvCacheDType::kF8E4M3, 256, 2>(const PagedAttentionParams&,
                                                            const DecodePlan&, const Launch&);

}  // namespace kvs::gpu
