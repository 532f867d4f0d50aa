// Vec over AVX-512 (F, BW, VL, DQ); the members are described in vec_portable.h.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace kvs::cpu {
namespace {

struct Vec {
  using Float = __m512;
  static constexpr uint32_t kWidth = 16;
  static constexpr uint32_t kTileRows = 12;
  static constexpr uint32_t kTileVecs = 2;

  static Float Zero() { return _mm512_setzero_ps(); }
  static Float Set1(float x) { return _mm512_set1_ps(x); }
  static Float Load(const float* p) { return _mm512_loadu_ps(p); }
  static void Store(float* p, Float v) { _mm512_storeu_ps(p, v); }
  static Float LoadN(const float* p, uint32_t n) { return _mm512_maskz_loadu_ps(Mask(n), p); }
  static void StoreN(float* p, Float v, uint32_t n) { _mm512_mask_storeu_ps(p, Mask(n), v); }

  static Float Add(Float a, Float b) { return _mm512_add_ps(a, b); }
  static Float Sub(Float a, Float b) { return _mm512_sub_ps(a, b); }
  static Float Mul(Float a, Float b) { return _mm512_mul_ps(a, b); }
  static Float Div(Float a, Float b) { return _mm512_div_ps(a, b); }
  static Float Max(Float a, Float b) { return _mm512_max_ps(a, b); }
  static Float Min(Float a, Float b) { return _mm512_min_ps(a, b); }
  static Float Fma(Float a, Float b, Float c) { return _mm512_fmadd_ps(a, b, c); }
  static Float Round(Float x) {
    return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
  static Float ScaleByPow2(Float x, Float n) { return _mm512_scalef_ps(x, n); }
  static float ReduceAdd(Float v) { return _mm512_reduce_add_ps(v); }
  static float ReduceMax(Float v) { return _mm512_reduce_max_ps(v); }

  static Float LoadBf16Lower(const uint32_t* p) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_loadu_si512(p), 16));
  }
  static Float LoadBf16Upper(const uint32_t* p) {
    const __m512i upper = _mm512_set1_epi32(static_cast<int>(0xffff0000u));
    return _mm512_castsi512_ps(_mm512_and_si512(_mm512_loadu_si512(p), upper));
  }
  static Float LoadBf16(const uint16_t* p) {
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
  }
  static Float LoadF16(const uint16_t* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }

  // By the scatter of a row: AttentionKernels takes it for float16 and float32 caches alone.
  static void Transpose(const float* from, size_t from_stride, float* to, size_t to_stride) {
    for (size_t row = 0; row < kWidth; ++row) {
      for (size_t column = 0; column < kWidth; ++column) {
        to[column * to_stride + row] = from[row * from_stride + column];
      }
    }
  }

 private:
  static __mmask16 Mask(uint32_t n) { return static_cast<__mmask16>((1u << n) - 1u); }
};

}  // namespace
}  // namespace kvs::cpu
