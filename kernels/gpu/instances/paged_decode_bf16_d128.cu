#include "gpu/paged_decode_kernel.cuh"

namespace kvs::gpu {

template void RunPagedDecode<KvCacheDType::kBf16, 128, 1>(const PagedAttentionParams&,
                                                          const DecodePlan&, const Launch&);
template void RunPagedDecode<KvCacheDType::kBf16, 128, 2>(const PagedAttentionParams&,
                                                          const DecodePlan&, const Launch&);

}  // namespace kvs::gpu
