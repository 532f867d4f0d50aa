// Vec over AVX2, FMA and F16C; the members are described in vec_portable.h.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace kvs::cpu {
namespace {

struct Vec {
  using Float = __m256;
  static constexpr uint32_t kWidth = 8;
  static constexpr uint32_t kTileRows = 6;
  static constexpr uint32_t kTileVecs = 2;

  static Float Zero() { return _mm256_setzero_ps(); }
  static Float Set1(float x) { return _mm256_set1_ps(x); }
  static Float Load(const float* p) { return _mm256_loadu_ps(p); }
  static void Store(float* p, Float v) { _mm256_storeu_ps(p, v); }
  static Float LoadN(const float* p, uint32_t n) { return _mm256_maskload_ps(p, Mask(n)); }
  static void StoreN(float* p, Float v, uint32_t n) { _mm256_maskstore_ps(p, Mask(n), v); }

  static Float Add(Float a, Float b) { return _mm256_add_ps(a, b); }
  static Float Sub(Float a, Float b) { return _mm256_sub_ps(a, b); }
  static Float Mul(Float a, Float b) { return _mm256_mul_ps(a, b); }
  static Float Div(Float a, Float b) { return _mm256_div_ps(a, b); }
  static Float Max(Float a, Float b) { return _mm256_max_ps(a, b); }
  static Float Min(Float a, Float b) { return _mm256_min_ps(a, b); }
  // Spelled out, so that a sum stays in its register: gcc 12 lets the product's operand take the
  // sum over, and then has too few registers for the tile's sums.
  static Float Fma(Float a, Float b, Float c) {
    __asm__("vfmadd231ps %2, %1, %0" : "+x"(c) : "x"(a), "x"(b));
    return c;
  }
  static Float Round(Float x) {
    return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
  static Float ScaleByPow2(Float x, Float n) {
    const __m256i whole = _mm256_cvtps_epi32(n);
    const __m256i half = _mm256_srai_epi32(whole, 1);
    return Mul(Mul(x, Pow2(half)), Pow2(_mm256_sub_epi32(whole, half)));
  }
  static float ReduceAdd(Float v) {
    __m128 sum = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    sum = _mm_add_ps(sum, _mm_movehl_ps(sum, sum));
    return _mm_cvtss_f32(_mm_add_ss(sum, _mm_movehdup_ps(sum)));
  }
  static float ReduceMax(Float v) {
    __m128 max = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    max = _mm_max_ps(max, _mm_movehl_ps(max, max));
    return _mm_cvtss_f32(_mm_max_ss(max, _mm_movehdup_ps(max)));
  }

  static Float LoadBf16Lower(const uint32_t* p) {
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(bits, 16));
  }
  static Float LoadBf16Upper(const uint32_t* p) {
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    const __m256i upper = _mm256_set1_epi32(static_cast<int>(0xffff0000u));
    return _mm256_castsi256_ps(_mm256_and_si256(bits, upper));
  }
  static Float LoadBf16(const uint16_t* p) {
    const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
  }
  static Float LoadF16(const uint16_t* p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }

  // 2 * kWidth FP8 codes, by way of half precision: its exponent has as many bits as E5M2's, and
  // with E4M3's bits it reads 2^8 too small, subnormals too.
  static void LoadE5M2(const uint8_t* p, Float* first, Float* second) {
    Halves(_mm256_slli_epi16(LoadCodes(p), 8), first, second);
  }
  static void LoadE4M3(const uint8_t* p, Float* first, Float* second) {
    const __m256i magnitude_mask = _mm256_set1_epi16(0x3f80);
    const __m256i spread = _mm256_srai_epi16(_mm256_slli_epi16(LoadCodes(p), 8), 1);
    const __m256i magnitude = _mm256_and_si256(spread, magnitude_mask);
    const __m256i half = _mm256_and_si256(spread, _mm256_set1_epi16(~0x4000));
    const __m256i nan = _mm256_cmpeq_epi16(magnitude, magnitude_mask);
    Halves(_mm256_or_si256(half, nan), first, second);
    *first = Mul(*first, Set1(256.0f));
    *second = Mul(*second, Set1(256.0f));
  }

  static void Transpose(const float* from, size_t from_stride, float* to, size_t to_stride) {
    // Rows r and r + 4 side by side, so that all that is left to do stays within 128 bits.
    Float low[4], high[4];
    for (uint32_t r = 0; r < 4; ++r) {
      const float* row = from + r * from_stride;
      low[r] = Beside(row, row + 4 * from_stride);
      high[r] = Beside(row + 4, row + 4 + 4 * from_stride);
    }
    Transpose4(low, to, to_stride);
    Transpose4(high, to + 4 * to_stride, to_stride);
  }

 private:
  static __m256i LoadCodes(const uint8_t* p) {
    return _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static void Halves(__m256i bits, Float* first, Float* second) {
    *first = _mm256_cvtph_ps(_mm256_castsi256_si128(bits));
    *second = _mm256_cvtph_ps(_mm256_extracti128_si256(bits, 1));
  }
  static Float Beside(const float* lower, const float* upper) {
    return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(lower)), _mm_loadu_ps(upper),
                                1);
  }
  // Of 4 x 4 in both halves.
  static void Transpose4(const Float (&rows)[4], float* to, size_t to_stride) {
    const Float ab_low = _mm256_unpacklo_ps(rows[0], rows[1]);
    const Float ab_high = _mm256_unpackhi_ps(rows[0], rows[1]);
    const Float cd_low = _mm256_unpacklo_ps(rows[2], rows[3]);
    const Float cd_high = _mm256_unpackhi_ps(rows[2], rows[3]);
    Store(to, _mm256_shuffle_ps(ab_low, cd_low, 0x44));
    Store(to + to_stride, _mm256_shuffle_ps(ab_low, cd_low, 0xee));
    Store(to + 2 * to_stride, _mm256_shuffle_ps(ab_high, cd_high, 0x44));
    Store(to + 3 * to_stride, _mm256_shuffle_ps(ab_high, cd_high, 0xee));
  }
  static __m256i Mask(uint32_t n) {
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), lane);
  }
  static Float Pow2(__m256i n) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
  }
};

}  // namespace
}  // namespace kvs::cpu
