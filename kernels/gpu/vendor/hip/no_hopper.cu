// AMD has no Hopper: what the table of prefill kernels names for it, and BestPrefillPath never
// picks; and the linear kernels that say they serve nothing.
#include "gpu/linear_kernels.h"
#include "gpu/paged_prefill_instances.h"

namespace kvs::gpu {

template <KvCacheDType dtype, uint32_t kHeadDim>
void RunHopperPrefill(const PagedAttentionParams&, const PrefillTiles&, const PrefillGrid&,
                      const Launch&) {
  KVS_CHECK(!"prefill attention: this device has no Hopper path");
}

#define KVS_NO_HOPPER(dtype)                                                                   \
  template void RunHopperPrefill<dtype, 64>(const PagedAttentionParams&, const PrefillTiles&,  \
                                            const PrefillGrid&, const Launch&);                \
  template void RunHopperPrefill<dtype, 128>(const PagedAttentionParams&, const PrefillTiles&, \
                                             const PrefillGrid&, const Launch&);
KVS_NO_HOPPER(KvCacheDType::kBf16)
KVS_NO_HOPPER(KvCacheDType::kF16)
KVS_NO_HOPPER(KvCacheDType::kF8E4M3)
KVS_NO_HOPPER(KvCacheDType::kF8E5M2)
#undef KVS_NO_HOPPER

void PrepareStreamGemv(const DeviceFacts&) {}
bool StreamGemvServes(const LinearParams&, const DeviceFacts&) { return false; }
void StreamGemv(const LinearParams&, const Launch&, const QuantizedRows*) {
  KVS_CHECK(!"linear layers: this device has no Hopper path");
}
void PrepareStreamGemm(const DeviceFacts&) {}
bool StreamGemmServes(const LinearParams&, const DeviceFacts&) { return false; }
void StreamGemm(const LinearParams&, const Launch&) {
  KVS_CHECK(!"linear layers: this device has no Hopper path");
}

}  // namespace kvs::gpu
