#pragma once

// Transcendental functions over Vec. A lane's result depends on its own input alone.

namespace kvs::cpu {
namespace {

// e^x. Range reduction by ln 2 in two parts (Cody & Waite), then a polynomial on
// [-ln2/2, ln2/2] (coefficients: Cephes expf). Error below 2 ulp; exactly 0 for -infinity,
// infinity above 88.73, NaN for NaN.
inline Vec::Float Exp(Vec::Float x) {
  const Vec::Float in = Vec::Min(Vec::Set1(90.0f), Vec::Max(Vec::Set1(-110.0f), x));
  const Vec::Float n = Vec::Round(Vec::Mul(in, Vec::Set1(1.44269504088896341f)));
  Vec::Float r = Vec::Fma(n, Vec::Set1(-0.693359375f), in);
  r = Vec::Fma(n, Vec::Set1(2.12194440e-4f), r);
  Vec::Float p = Vec::Set1(1.9875691500e-4f);
  p = Vec::Fma(p, r, Vec::Set1(1.3981999507e-3f));
  p = Vec::Fma(p, r, Vec::Set1(8.3334519073e-3f));
  p = Vec::Fma(p, r, Vec::Set1(4.1665795894e-2f));
  p = Vec::Fma(p, r, Vec::Set1(1.6666665459e-1f));
  p = Vec::Fma(p, r, Vec::Set1(5.0000001201e-1f));
  p = Vec::Add(Vec::Fma(p, Vec::Mul(r, r), r), Vec::Set1(1.0f));
  return Vec::ScaleByPow2(p, n);
}

}  // namespace
}  // namespace kvs::cpu
