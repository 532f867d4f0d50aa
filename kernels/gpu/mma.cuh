// Tensor-core primitives of one warp: 16-bit matrix products with float32 accumulators, and moves
// of 8x8 matrices of 16-bit elements between shared memory and fragments. All 32 lanes call them
// together. With g = lane / 4 and t = lane % 4, a register of a fragment holds two elements, the
// lower half first:
//
//   A [16 x 16]  a[0] (g, 2t..2t+1)  a[1] (g + 8, 2t..)  a[2] (g, 2t + 8..)  a[3] (g + 8, 2t + 8..)
//   B [16 x 8]   b0 (2t..2t+1, g)    b1 (2t + 8..2t + 9, g)
//   C [16 x 8]   c[0..1] (g, 2t..2t+1)    c[2..3] (g + 8, 2t..2t+1), float32
#pragma once

#include "gpu/gpu.h"
#include KVS_VENDOR_HEADER(mma.cuh)

namespace kvs::gpu {

// A pair of activations as a pair of what the matrix instruction takes.
template <class Act, class Compute>
KVS_DEVICE uint32_t ConvertPair(uint32_t pair) {
  const Act* values = reinterpret_cast<const Act*>(&pair);
  return Pack2<Compute>(ToFloat(values[0]), ToFloat(values[1]));
}
template <>
KVS_DEVICE uint32_t ConvertPair<F16, F16>(uint32_t pair) {
  return pair;
}
template <>
KVS_DEVICE uint32_t ConvertPair<Bf16, Bf16>(uint32_t pair) {
  return pair;
}

}  // namespace kvs::gpu
