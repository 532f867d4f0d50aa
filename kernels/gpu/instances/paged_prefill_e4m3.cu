#include "gpu/paged_prefill.cuh"

namespace kvs::gpu {

template void RunPortablePrefill<KvCacheDType::kF8E4M3, 64>(const PagedAttentionParams&,
                                                            const PrefillTiles&, const PrefillGrid&,
                                                            const Launch&);
template void RunPortablePrefill<KvCacheDType::kF8E4M3, 128>(const PagedAttentionParams&,
                                                             const PrefillTiles&,
                                                             const PrefillGrid&, const Launch&);
template void RunPortablePrefill<KvCacheDType::kF8E4M3, 256>(const PagedAttentionParams&,
                                                             const PrefillTiles&,
                                                             const PrefillGrid&, const Launch&);

}  // namespace kvs::gpu
