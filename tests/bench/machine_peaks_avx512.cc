#include <immintrin.h>

#include "bench/machine_peaks.h"

namespace kvs::bench {

void RunBf16DotLoop(uint64_t count) {
  constexpr int kChains = 24;
  __m512 sums[kChains];
  for (auto& sum : sums) sum = _mm512_setzero_ps();
  auto x = _mm512_set1_epi16(0x3f80);
  for (uint64_t i = 0; i < count; ++i) {
    asm volatile("" : "+v"(x));  // so that the compiler cannot hoist the products
#pragma GCC unroll 24
    for (int chain = 0; chain < kChains; ++chain) {
      sums[chain] = _mm512_dpbf16_ps(sums[chain], reinterpret_cast<__m512bh>(x),
                                     reinterpret_cast<__m512bh>(x));
    }
  }
  for (auto& sum : sums) asm volatile("" ::"v"(sum));
}

}  // namespace kvs::bench
