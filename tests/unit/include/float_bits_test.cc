#include "kvserve/float_bits.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace kvs {
namespace {

struct Format {
  int exponent_bits;
  int mantissa_bits;
  bool has_infinity;  // E4M3FN: none, and only the code of all ones is NaN
};

constexpr Format kE4M3{4, 3, false};
constexpr Format kE5M2{5, 2, true};
constexpr Format kF16{5, 10, true};

// The value of a sign-less code by the definition of the format.
double Definition(const Format& format, uint32_t code) {
  const uint32_t mantissa_end = 1u << format.mantissa_bits;
  const int exponent = static_cast<int>(code / mantissa_end);
  const uint32_t mantissa = code % mantissa_end;
  const int bias = (1 << (format.exponent_bits - 1)) - 1;
  const bool top = exponent == (1 << format.exponent_bits) - 1;
  if (top && format.has_infinity) return mantissa == 0 ? INFINITY : NAN;
  if (top && mantissa == mantissa_end - 1) return NAN;
  if (exponent == 0) return std::ldexp(mantissa, 1 - bias - format.mantissa_bits);
  return std::ldexp(mantissa_end + mantissa, exponent - bias - format.mantissa_bits);
}

std::vector<double> FiniteValues(const Format& format) {
  std::vector<double> values;
  for (uint32_t code = 0; std::isfinite(Definition(format, code)); ++code) {
    values.push_back(Definition(format, code));
  }
  return values;
}

// The code of the value nearest to |x| among all finite ones, ties to the even code; `beyond` for
// what rounds past the largest.
uint32_t Nearest(const std::vector<double>& values, double magnitude, uint32_t beyond) {
  const double step = values.back() - values[values.size() - 2];
  if (magnitude >= values.back() + step / 2) return beyond;
  const auto above = std::lower_bound(values.begin(), values.end(), magnitude);
  if (above == values.end()) return static_cast<uint32_t>(values.size() - 1);
  const auto code = static_cast<uint32_t>(above - values.begin());
  if (code == 0) return 0;
  const double to_above = *above - magnitude;
  const double to_below = magnitude - values[code - 1];
  if (to_above == to_below) return code % 2 == 0 ? code : code - 1;
  return to_above < to_below ? code : code - 1;
}

template <class Decode>
void ExpectDecodes(const Format& format, const Decode& decode) {
  const uint32_t num_codes = 1u << (format.exponent_bits + format.mantissa_bits);
  for (uint32_t code = 0; code < num_codes; ++code) {
    const double want = Definition(format, code);
    for (const bool negative : {false, true}) {
      const float got = decode(negative ? code + num_codes : code);
      if (std::isnan(want)) {
        EXPECT_TRUE(std::isnan(got)) << code;
      } else {
        EXPECT_EQ(got, negative ? -want : want) << code;
        EXPECT_EQ(std::signbit(got), negative) << code;
      }
    }
  }
}

TEST(FloatBits, EveryE4M3CodeDecodes) {
  ExpectDecodes(kE4M3, [](uint32_t code) { return F8E4M3ToFloat(static_cast<uint8_t>(code)); });
}

TEST(FloatBits, EveryE5M2CodeDecodes) {
  ExpectDecodes(kE5M2, [](uint32_t code) { return F8E5M2ToFloat(static_cast<uint8_t>(code)); });
}

TEST(FloatBits, EveryF16CodeDecodes) {
  ExpectDecodes(kF16, [](uint32_t code) { return F16ToFloat(static_cast<uint16_t>(code)); });
}

// Every bf16 pattern, the floats beside it, and the floats half way to the next one.
template <class Check>
void ForEachFloat(const Check& check) {
  for (uint32_t upper = 0; upper < 0x10000; ++upper) {
    for (const uint32_t lower : {0u, 1u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu}) {
      check(FloatFromBits((upper << 16) | lower));
    }
  }
}

template <class Encode>
void ExpectEncodesNearest(const Format& format, uint32_t nan_code, uint32_t beyond,
                          const Encode& encode) {
  const auto values = FiniteValues(format);
  const uint32_t sign = 1u << (format.exponent_bits + format.mantissa_bits);
  ForEachFloat([&](float x) {
    uint32_t want = std::isnan(x) ? nan_code : Nearest(values, std::abs(double{x}), beyond);
    if (std::signbit(x)) want |= sign;
    ASSERT_EQ(encode(x), want) << std::hexfloat << x;
  });
}

TEST(FloatBits, E4M3EncodesNearestAndSaturates) {
  ExpectEncodesNearest(kE4M3, 0x7f, 0x7e, [](float x) { return uint32_t{FloatToF8E4M3(x)}; });
}

TEST(FloatBits, E5M2EncodesNearestAndSaturates) {
  ExpectEncodesNearest(kE5M2, 0x7e, 0x7b, [](float x) { return uint32_t{FloatToF8E5M2(x)}; });
}

TEST(FloatBits, F16EncodesNearestAndOverflowsToInfinity) {
  ExpectEncodesNearest(kF16, 0x7e00, 0x7c00, [](float x) { return uint32_t{FloatToF16(x)}; });
}

TEST(FloatBits, Bf16EncodesNearest) {
  ForEachFloat([](float x) {
    const uint16_t got = FloatToBf16(x);
    if (std::isnan(x)) {
      ASSERT_TRUE(std::isnan(Bf16ToFloat(got)));
      return;
    }
    const uint32_t below = FloatBits(x) >> 16;
    const double low = std::abs(double{Bf16ToFloat(static_cast<uint16_t>(below))});
    const uint32_t above = below + 1;
    // Past the largest finite code stands infinity, at twice the largest power of two.
    const double high = (above & 0x7fffu) == 0x7f80u
                            ? std::ldexp(1.0, 128)
                            : std::abs(double{Bf16ToFloat(static_cast<uint16_t>(above))});
    const double magnitude = std::isinf(x) ? std::ldexp(1.0, 128) : std::abs(double{x});
    uint32_t want = below;
    if (!std::isinf(x) && (magnitude - low > high - magnitude ||
                           (magnitude - low == high - magnitude && below % 2 == 1))) {
      want = above;
    }
    ASSERT_EQ(got, want) << std::hexfloat << x;
  });
}

TEST(FloatBits, EncodersInvertDecoders) {
  for (uint32_t code = 0; code < 256; ++code) {
    const auto stored = static_cast<uint8_t>(code);
    const float e4m3 = F8E4M3ToFloat(stored);
    if (!std::isnan(e4m3)) {
      EXPECT_EQ(FloatToF8E4M3(e4m3), stored);
    }
    const float e5m2 = F8E5M2ToFloat(stored);
    if (std::isfinite(e5m2)) {
      EXPECT_EQ(FloatToF8E5M2(e5m2), stored);
    }
  }
}

}  // namespace
}  // namespace kvs
