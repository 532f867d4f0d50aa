#include "gpu/hopper/paged_prefill.cuh"

namespace kvs::gpu {

template void RunHopperPrefill<KvCacheDType::kF8E4M3, 64>(const PagedAttentionParams&,
                                                          const PrefillTiles&, const PrefillGrid&,
                                                          const Launch&);
template void RunHopperPrefill<KvCacheDType::kF8E4M3, 128>(const PagedAttentionParams&,
                                                           const PrefillTiles&, const PrefillGrid&,
                                                           const Launch&);

}  // namespace kvs::gpu
