// What unpacking rows of a cache is made of: loads, transposition, FP8 codes to bf16.
#pragma once

#include <immintrin.h>

#include "cpu/attention.h"

namespace kvs::cpu {
namespace {

// Turns 16 rows of 16 dwords into 16 columns.
inline void Transpose16x16(__m512i (&rows)[16]) {
  __m512i a[16], b[16];
  for (int i = 0; i < 16; i += 2) {
    a[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
    a[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {
    b[i] = _mm512_unpacklo_epi64(a[i], a[i + 2]);
    b[i + 1] = _mm512_unpackhi_epi64(a[i], a[i + 2]);
    b[i + 2] = _mm512_unpacklo_epi64(a[i + 1], a[i + 3]);
    b[i + 3] = _mm512_unpackhi_epi64(a[i + 1], a[i + 3]);
  }
  for (int i = 0; i < 4; ++i) {
    a[i] = _mm512_shuffle_i32x4(b[i], b[i + 4], 0x88);
    a[i + 4] = _mm512_shuffle_i32x4(b[i], b[i + 4], 0xdd);
    a[i + 8] = _mm512_shuffle_i32x4(b[i + 8], b[i + 12], 0x88);
    a[i + 12] = _mm512_shuffle_i32x4(b[i + 8], b[i + 12], 0xdd);
  }
  for (int i = 0; i < 4; ++i) {
    rows[i] = _mm512_shuffle_i32x4(a[i], a[i + 8], 0x88);
    rows[i + 4] = _mm512_shuffle_i32x4(a[i + 4], a[i + 12], 0x88);
    rows[i + 8] = _mm512_shuffle_i32x4(a[i], a[i + 8], 0xdd);
    rows[i + 12] = _mm512_shuffle_i32x4(a[i + 4], a[i + 12], 0xdd);
  }
}

// The FP8 codes' bf16 bytes in registers.
struct Fp8Decoder {
  explicit Fp8Decoder(const Fp8Table& table)
      : low{_mm512_load_si512(table.bf16_low), _mm512_load_si512(table.bf16_low + 64)},
        high{_mm512_load_si512(table.bf16_high), _mm512_load_si512(table.bf16_high + 64)} {}

  void Bytes(__m512i codes, __m512i* low_bytes, __m512i* high_bytes) const {
    *low_bytes = _mm512_permutex2var_epi8(low[0], codes, low[1]);
    const __m512i magnitude = _mm512_permutex2var_epi8(high[0], codes, high[1]);
    // magnitude | (codes & sign)
    *high_bytes = _mm512_ternarylogic_epi32(magnitude, codes, _mm512_set1_epi8(-128), 0xf8);
  }

  __m512i low[2];
  __m512i high[2];
};

inline __mmask64 FirstBytes(uint32_t n) {
  return n >= 64 ? ~__mmask64{0} : (__mmask64{1} << n) - 1;
}

// 64 bytes of each of the 16 positions that lie in one block, `bytes` of them within the row; zero
// for positions past `valid`. `ahead` is asked for line after line, whatever the rows' length: a
// stream in order is what the processor's own prefetching follows.
inline void LoadRows16(const uint8_t* from, const uint8_t* ahead, size_t row_bytes, uint32_t valid,
                       uint32_t bytes, __m512i (&rows)[16]) {
  if (valid >= 16 && bytes >= 64) {
#pragma GCC unroll 16
    for (uint32_t r = 0; r < 16; ++r) {
      rows[r] = _mm512_loadu_si512(from + r * row_bytes);
      __builtin_prefetch(ahead + r * 64);
    }
    return;
  }
#pragma GCC unroll 16
  for (uint32_t r = 0; r < 16; ++r) {
    rows[r] = _mm512_maskz_loadu_epi8(r < valid ? FirstBytes(bytes) : 0, from + r * row_bytes);
  }
}

}  // namespace
}  // namespace kvs::cpu
