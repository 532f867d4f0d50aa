// Decode attention that does the work of RopeKvStore, in the emulator, against the two ops: of the
// devices here, NVIDIA's shape alone does it.
#include "gpu/rope_problem.h"

namespace kvs::gpu {
namespace {

TEST(EmulatedDecode, DoesTheWorkOfRope) {
  ASSERT_TRUE(DecodeFusesRope());
  for (const KvCacheDType dtype :
       {KvCacheDType::kBf16, KvCacheDType::kF16, KvCacheDType::kF8E4M3, KvCacheDType::kF8E5M2}) {
    for (const uint32_t head_dim : {64u, 128u, 256u}) {
      ExpectDecodeDoesRope({.dtype = dtype, .head_dim = head_dim, .num_kv_heads = 1},
                           {{1, 1}, {17, 1}, {1, 1, true}, {150, 1}},
                           {.has_bias = IsFp8(dtype), .has_norms = head_dim == 64},
                           TestLaunch(DType::kBf16));
    }
  }
  for (const uint32_t group : {1u, 7u, 16u}) {
    Launch launch = TestLaunch(DType::kF16);
    launch.dependent = true;
    ExpectDecodeDoesRope({.dtype = KvCacheDType::kF8E4M3,
                          .act = DType::kF16,
                          .head_dim = 64,
                          .group = group,
                          .block_size = 32,
                          .window = 40},
                         {{300, 1}, {32, 1}}, {.has_bias = true, .has_norms = true}, launch);
  }
}

}  // namespace
}  // namespace kvs::gpu
