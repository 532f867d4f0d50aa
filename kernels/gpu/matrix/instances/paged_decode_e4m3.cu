#include "gpu/matrix/instances.cuh"

namespace kvs::gpu {

KVS_MATRIX_DECODE(KvCacheDType::kF8E4M3, 64);
KVS_MATRIX_DECODE(KvCacheDType::kF8E4M3, 128);
KVS_MATRIX_DECODE(KvCacheDType::kF8E4M3, 256);

}  // namespace kvs::gpu
