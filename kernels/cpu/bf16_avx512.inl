#pragma once

// The bf16 dot product: A and B hold pairs of bf16, a step is two k. Subnormal inputs and results
// count as zero (vdpbf16ps).

#include "cpu/tile.inl"

namespace kvs::cpu {
namespace {

// Thirty-two floats to bf16, nearest even, in order.
inline __m512i ToBf16(__m512 low, __m512 high) {
  return reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high, low));
}

inline constexpr uint32_t kBlockKBf16 = 1024;

// One row of x for the products of bf16, as LinearKernel::pack_x.
inline void PackXBf16(const float* in, uint32_t k, uint8_t* out) {
  auto* to = reinterpret_cast<uint16_t*>(out);
  for (uint32_t i = 0; i < k; i += 32) {
    const uint32_t left = k - i < 32 ? k - i : 32;
    const Vec::Float low = Vec::LoadN(in + i, left < 16 ? left : 16);
    const Vec::Float high = left > 16 ? Vec::LoadN(in + i + 16, left - 16) : Vec::Zero();
    const uint32_t padded = (left + 1) / 2 * 2;
    const auto mask = static_cast<__mmask32>((uint64_t{1} << padded) - 1);
    _mm512_mask_storeu_epi16(to + i, mask, ToBf16(low, high));
  }
}

template <size_t a_stride, size_t b_stride, class AheadOf>
struct OpBf16Dot {
  using A = uint32_t;
  using B = uint32_t;
  static constexpr size_t kAStride = a_stride;
  static constexpr size_t kBStride = b_stride;
  static constexpr size_t kAStep = 1;
  static constexpr size_t kKPerStep = 2;
  using Ahead = AheadOf;

  template <uint32_t kRows, uint32_t kVecs>
  static void Step(const A* a, const B* b, Vec::Float (&acc)[kRows][kVecs]) {
    __m512bh columns[kVecs];
    for (uint32_t v = 0; v < kVecs; ++v) {
      columns[v] = reinterpret_cast<__m512bh>(_mm512_loadu_si512(b + v * 16));
    }
    for (uint32_t r = 0; r < kRows; ++r) {
      const auto x =
          reinterpret_cast<__m512bh>(_mm512_set1_epi32(static_cast<int>(a[r * kAStride])));
      for (uint32_t v = 0; v < kVecs; ++v) {
        acc[r][v] = _mm512_dpbf16_ps(acc[r][v], x, columns[v]);
      }
    }
  }
};

}  // namespace
}  // namespace kvs::cpu
