#include "gpu/matrix/instances.cuh"

namespace kvs::gpu {

KVS_MATRIX_DECODE(KvCacheDType::kF8E5M2, 64);
KVS_MATRIX_DECODE(KvCacheDType::kF8E5M2, 128);
KVS_MATRIX_DECODE(KvCacheDType::kF8E5M2, 256);

}  // namespace kvs::gpu
