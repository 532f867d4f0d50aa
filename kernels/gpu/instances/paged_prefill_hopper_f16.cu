#include "gpu/hopper/paged_prefill.cuh"

namespace kvs::gpu {

template void RunHopperPrefill<KvCacheDType::kF16, 64>(const PagedAttentionParams&,
                                                       const PrefillTiles&, const PrefillGrid&,
                                                       const Launch&);
template void RunHopperPrefill<KvCacheDType::kF16, 128>(const PagedAttentionParams&,
                                                        const PrefillTiles&, const PrefillGrid&,
                                                        const Launch&);

}  // namespace kvs::gpu
