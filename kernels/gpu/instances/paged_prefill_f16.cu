#include "gpu/paged_prefill.cuh"

namespace kvs::gpu {

template void RunPortablePrefill<KvCacheDType::kF16, 64>(const PagedAttentionParams&,
                                                         const PrefillTiles&, const PrefillGrid&,
                                                         const Launch&);
template void RunPortablePrefill<KvCacheDType::kF16, 128>(const PagedAttentionParams&,
                                                          const PrefillTiles&, const PrefillGrid&,
                                                          const Launch&);
template void RunPortablePrefill<KvCacheDType::kF16, 256>(const PagedAttentionParams&,
                                                          const PrefillTiles&, const PrefillGrid&,
                                                          const Launch&);

}  // namespace kvs::gpu
