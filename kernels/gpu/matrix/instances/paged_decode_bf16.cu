#include "gpu/matrix/instances.cuh"

namespace kvs::gpu {

KVS_MATRIX_DECODE(KvCacheDType::kBf16, 64);
KVS_MATRIX_DECODE(KvCacheDType::kBf16, 128);
KVS_MATRIX_DECODE(KvCacheDType::kBf16, 256);

}  // namespace kvs::gpu
