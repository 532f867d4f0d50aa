#include "gpu/matrix/instances.cuh"

namespace kvs::gpu {

KVS_MATRIX_PREFILL(KvCacheDType::kF16, 64);
KVS_MATRIX_PREFILL(KvCacheDType::kF16, 128);
KVS_MATRIX_PREFILL(KvCacheDType::kF16, 256);

}  // namespace kvs::gpu
