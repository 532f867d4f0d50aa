// Scalar conversions between float and the stored 16-bit and 8-bit formats, by integer arithmetic,
// so that every device and compiler gives the same bits. Compiles as host and as device code.
//
// Every encoder rounds to nearest, ties to even. The FP8 encoders saturate: a finite or infinite
// value beyond the largest finite code becomes that code with its sign (OCP "saturating" mode);
// NaN becomes the format's NaN. Formats: OCP 8-bit Floating Point Specification (OFP8) 1.0,
// section 5; bfloat16 is the upper half of an IEEE 754 binary32.
#pragma once

#include <cstdint>

namespace kvs {

inline constexpr float kF8E4M3Max = 448.0f;
inline constexpr float kF8E5M2Max = 57344.0f;

constexpr uint32_t FloatBits(float value) { return __builtin_bit_cast(uint32_t, value); }

constexpr float FloatFromBits(uint32_t bits) { return __builtin_bit_cast(float, bits); }

constexpr float Bf16ToFloat(uint16_t stored) {
  return FloatFromBits(static_cast<uint32_t>(stored) << 16);
}

constexpr uint16_t FloatToBf16(float value) {
  const uint32_t bits = FloatBits(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((bits >> 16) | 0x40u);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

namespace internal {

// Encodes |value| into a sign-less small float with `exponent_bits` and `mantissa_bits`, without
// regard to its largest code: an overflowing value yields a code above every finite one.
template <int exponent_bits, int mantissa_bits>
constexpr uint32_t EncodeMagnitude(uint32_t magnitude_bits) {
  constexpr int kBias = (1 << (exponent_bits - 1)) - 1;
  constexpr int kShift = 23 - mantissa_bits;
  const int exponent = static_cast<int>(magnitude_bits >> 23) - 127;
  if (exponent >= 1 - kBias) {  // normal in the small format
    const uint32_t rebased = magnitude_bits - (static_cast<uint32_t>(127 - kBias) << 23);
    return (rebased + (1u << (kShift - 1)) - 1 + ((rebased >> kShift) & 1u)) >> kShift;
  }
  // Subnormal: the mantissa with its hidden bit, shifted right until the exponent is 1 - kBias.
  const int shift = kShift + (1 - kBias) - exponent;
  if (shift > 24 || (magnitude_bits >> 23) == 0) return 0;  // below half of the smallest code
  const uint32_t mantissa = (magnitude_bits & 0x7fffffu) | 0x800000u;
  const uint32_t kept = mantissa >> shift;
  const uint32_t rest = mantissa & ((1u << shift) - 1);
  const uint32_t half = 1u << (shift - 1);
  return kept + (rest > half || (rest == half && (kept & 1u)) ? 1u : 0u);
}

// The inverse for a code with no special meaning (not NaN, not infinity).
template <int exponent_bits, int mantissa_bits>
constexpr float DecodeMagnitude(uint32_t code) {
  constexpr int kBias = (1 << (exponent_bits - 1)) - 1;
  const uint32_t exponent = code >> mantissa_bits;
  const uint32_t mantissa = code & ((1u << mantissa_bits) - 1);
  if (exponent == 0) {
    const float unit = FloatFromBits(static_cast<uint32_t>(127 + 1 - kBias - mantissa_bits) << 23);
    return static_cast<float>(mantissa) * unit;
  }
  return FloatFromBits(((exponent + 127 - kBias) << 23) | (mantissa << (23 - mantissa_bits)));
}

constexpr float WithSign(float magnitude, bool negative) {
  return negative ? -magnitude : magnitude;
}

}  // namespace internal

constexpr float F16ToFloat(uint16_t stored) {
  const bool negative = (stored & 0x8000u) != 0;
  const uint32_t code = stored & 0x7fffu;
  if (code >= 0x7c00u) {
    const uint32_t special = 0x7f800000u | ((code & 0x3ffu) << 13);
    return FloatFromBits(special | (negative ? 0x80000000u : 0u));
  }
  return internal::WithSign(internal::DecodeMagnitude<5, 10>(code), negative);
}

constexpr uint16_t FloatToF16(float value) {
  const uint32_t bits = FloatBits(value);
  const uint32_t magnitude = bits & 0x7fffffffu;
  const uint32_t sign = (bits >> 16) & 0x8000u;
  if (magnitude > 0x7f800000u) return static_cast<uint16_t>(sign | 0x7e00u);
  const uint32_t code = internal::EncodeMagnitude<5, 10>(magnitude);
  return static_cast<uint16_t>(sign | (code > 0x7c00u ? 0x7c00u : code));
}

constexpr float F8E4M3ToFloat(uint8_t stored) {
  const uint32_t code = stored & 0x7fu;
  if (code == 0x7fu) return FloatFromBits(0x7fc00000u);
  return internal::WithSign(internal::DecodeMagnitude<4, 3>(code), (stored & 0x80u) != 0);
}

constexpr uint8_t FloatToF8E4M3(float value) {
  const uint32_t bits = FloatBits(value);
  const uint32_t magnitude = bits & 0x7fffffffu;
  const uint32_t sign = (bits >> 24) & 0x80u;
  if (magnitude > 0x7f800000u) return static_cast<uint8_t>(sign | 0x7fu);
  if (magnitude >= FloatBits(kF8E4M3Max)) return static_cast<uint8_t>(sign | 0x7eu);
  const uint32_t code = internal::EncodeMagnitude<4, 3>(magnitude);
  return static_cast<uint8_t>(sign | code);
}

constexpr float F8E5M2ToFloat(uint8_t stored) {
  return F16ToFloat(static_cast<uint16_t>(stored << 8));
}

constexpr uint8_t FloatToF8E5M2(float value) {
  const uint32_t bits = FloatBits(value);
  const uint32_t magnitude = bits & 0x7fffffffu;
  const uint32_t sign = (bits >> 24) & 0x80u;
  if (magnitude > 0x7f800000u) return static_cast<uint8_t>(sign | 0x7eu);
  if (magnitude >= FloatBits(kF8E5M2Max)) return static_cast<uint8_t>(sign | 0x7bu);
  const uint32_t code = internal::EncodeMagnitude<5, 2>(magnitude);
  return static_cast<uint8_t>(sign | (code > 0x7bu ? 0x7bu : code));
}

}  // namespace kvs
