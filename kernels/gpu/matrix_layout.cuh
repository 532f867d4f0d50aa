// Operands of matrix.cuh in the shape that gfx11 has them, and what several devices share.
#pragma once

#include "gpu/gpu.h"
#include KVS_VENDOR_HEADER(mma.cuh)

namespace kvs::gpu {

template <class T>
inline constexpr bool kIsF16 = false;
template <>
inline constexpr bool kIsF16<F16> = true;

// kSize values of 32 bits in consecutive registers.
template <class T, uint32_t kSize>
struct RegistersOf {
  typedef T Type __attribute__((vector_size(kSize * 4)));
};

// Two elements each, the lower half first.
template <uint32_t kPairs>
struct MatrixOperandOf {
  typename RegistersOf<uint32_t, kPairs>::Type pairs;
};

// 16 elements of which lanes l and l + 16 hold every second one each, sum rows 2 * i + lane / 16,
// as 8 pairs in both lanes. Shuffle exchanges with lane ^ 16.
template <class T, class Shuffle>
KVS_DEVICE MatrixOperandOf<8> InterleaveHalves(const typename RegistersOf<float, 8>::Type& values,
                                               bool upper_lane, const Shuffle& shuffle) {
  MatrixOperandOf<8> out;
#pragma unroll
  for (uint32_t i = 0; i < 4; ++i) {
    const uint32_t mine = Pack2<T>(values[2 * i], values[2 * i + 1]);
    const uint32_t other = shuffle(mine);
    const uint32_t even = upper_lane ? other : mine, odd = upper_lane ? mine : other;
    out.pairs[2 * i] = (even & 0xffffu) | odd << 16;
    out.pairs[2 * i + 1] = even >> 16 | (odd & 0xffff0000u);
  }
  return out;
}

}  // namespace kvs::gpu
