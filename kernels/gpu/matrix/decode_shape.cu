#include "gpu/matrix/paged_decode.cuh"

namespace kvs::gpu {

// One shape for all: blocks of a few waves, two to a multiprocessor. Their shared memory is the
// launcher's business.
std::optional<DecodeShape> ChooseDecodeShape(KvCacheDType dtype, uint32_t head_dim, uint32_t,
                                             uint32_t, const DeviceFacts& facts) {
  return DecodeShape{MatrixDecodeTokens(dtype, head_dim),
                     false,
                     MatrixDecodeWaves(head_dim),
                     0,
                     static_cast<uint32_t>(facts.num_multiprocessors) * kDecodeMaxCtasPerSm,
                     0};
}

bool DecodeFusesRope() { return false; }

}  // namespace kvs::gpu
