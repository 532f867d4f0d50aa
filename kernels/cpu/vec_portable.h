// Vec: the vector of one instruction set. Each vec_*.h defines the same members; *.inl files are
// written over them and included once per instruction set. Everything stands in an unnamed
// namespace, so that code compiled for one set can never be linked into another's file.
//
// Portable: four lanes of the compiler's vector extension, with no fused multiply-add.
#pragma once

#include <cstdint>
#include <cstring>

#include "kvserve/float_bits.h"

namespace kvs::cpu {
namespace {

struct Vec {
  using Float = float __attribute__((vector_size(16)));
  using Int = int32_t __attribute__((vector_size(16)));
  static constexpr uint32_t kWidth = 4;
  // The largest register tile: accumulators, one row of B and one broadcast fit the registers.
  static constexpr uint32_t kTileRows = 4;
  static constexpr uint32_t kTileVecs = 2;

  static Float Zero() { return Float{}; }
  static Float Set1(float x) { return Float{x, x, x, x}; }
  static Float Load(const float* p) {
    Float v;
    memcpy(&v, p, sizeof v);
    return v;
  }
  static void Store(float* p, Float v) { memcpy(p, &v, sizeof v); }
  // The first n of kWidth lanes; the others are zero. n <= kWidth.
  static Float LoadN(const float* p, uint32_t n) {
    Float v{};
    memcpy(&v, p, n * sizeof(float));
    return v;
  }
  static void StoreN(float* p, Float v, uint32_t n) { memcpy(p, &v, n * sizeof(float)); }

  static Float Add(Float a, Float b) { return a + b; }
  static Float Sub(Float a, Float b) { return a - b; }
  static Float Mul(Float a, Float b) { return a * b; }
  static Float Div(Float a, Float b) { return a / b; }
  // b where either is NaN.
  static Float Max(Float a, Float b) { return Select(a > b, a, b); }
  static Float Min(Float a, Float b) { return Select(a < b, a, b); }
  // a * b + c
  static Float Fma(Float a, Float b, Float c) { return a * b + c; }
  // To the nearest integer, ties to even. |x| < 2^22.
  static Float Round(Float x) {
    const Float magic = Set1(12582912.0f);  // 1.5 * 2^23: the sum's mantissa holds the integer
    return (x + magic) - magic;
  }
  // x * 2^n for integral n in [-252, 254].
  static Float ScaleByPow2(Float x, Float n) {
    const Int whole = __builtin_convertvector(n, Int);
    const Int half = whole >> 1;
    return x * Pow2(half) * Pow2(whole - half);
  }
  static float ReduceAdd(Float v) { return (v[0] + v[2]) + (v[1] + v[3]); }
  static float ReduceMax(Float v) {
    const float a = v[0] > v[2] ? v[0] : v[2];
    const float b = v[1] > v[3] ? v[1] : v[3];
    return a > b ? a : b;
  }

  // The lower and the upper halves of kWidth pairs of bf16, a pair a dword.
  static Float LoadBf16Lower(const uint32_t* p) {
    Int bits;
    memcpy(&bits, p, sizeof bits);
    return FromBits(bits << 16);
  }
  static Float LoadBf16Upper(const uint32_t* p) {
    Int bits;
    memcpy(&bits, p, sizeof bits);
    return FromBits(bits & static_cast<int32_t>(0xffff0000u));
  }
  static Float LoadBf16(const uint16_t* p) { return FromBits(Int{p[0], p[1], p[2], p[3]} << 16); }
  static Float LoadF16(const uint16_t* p) {
    return Float{F16ToFloat(p[0]), F16ToFloat(p[1]), F16ToFloat(p[2]), F16ToFloat(p[3])};
  }

  // to[column][row] = from[row][column], kWidth of each; strides in floats.
  static void Transpose(const float* from, size_t from_stride, float* to, size_t to_stride) {
    const Float a = Load(from), b = Load(from + from_stride);
    const Float c = Load(from + 2 * from_stride), d = Load(from + 3 * from_stride);
    Store(to, Float{a[0], b[0], c[0], d[0]});
    Store(to + to_stride, Float{a[1], b[1], c[1], d[1]});
    Store(to + 2 * to_stride, Float{a[2], b[2], c[2], d[2]});
    Store(to + 3 * to_stride, Float{a[3], b[3], c[3], d[3]});
  }

 private:
  static Float FromBits(Int bits) {
    Float v;
    memcpy(&v, &bits, sizeof v);
    return v;
  }
  static Float Select(Int mask, Float a, Float b) {
    Int a_bits, b_bits;
    memcpy(&a_bits, &a, sizeof a);
    memcpy(&b_bits, &b, sizeof b);
    return FromBits((mask & a_bits) | (~mask & b_bits));
  }
  static Float Pow2(Int n) { return FromBits((n + 127) << 23); }
};

}  // namespace
}  // namespace kvs::cpu
