#include "reference/naive.h"

#include <algorithm>
#include <cmath>

#include "kvserve/float_bits.h"

namespace kvs::naive {

double RoundTo(double value, DType dtype) { return RoundTo(value, KvCacheDTypeOf(dtype)); }

double RoundTo(double value, KvCacheDType dtype) {
  const auto x = static_cast<float>(value);
  switch (dtype) {
    case KvCacheDType::kF32:
      return x;
    case KvCacheDType::kBf16:
      return Bf16ToFloat(FloatToBf16(x));
    case KvCacheDType::kF16:
      return F16ToFloat(FloatToF16(x));
    case KvCacheDType::kF8E4M3:
      return F8E4M3ToFloat(FloatToF8E4M3(x));
    case KvCacheDType::kF8E5M2:
      return F8E5M2ToFloat(FloatToF8E5M2(x));
  }
  return x;
}

std::vector<double> Linear(std::span<const float> x, std::span<const float> w, uint32_t rows,
                           uint32_t in_features, uint32_t out_features) {
  std::vector<double> out(size_t{rows} * out_features);
  for (size_t row = 0; row < rows; ++row) {
    for (size_t col = 0; col < out_features; ++col) {
      double sum = 0;
      for (size_t k = 0; k < in_features; ++k) {
        sum += double{x[row * in_features + k]} * double{w[col * in_features + k]};
      }
      out[row * out_features + col] = sum;
    }
  }
  return out;
}

std::vector<double> AddRmsNorm(std::vector<double>* residual, std::span<const float> x,
                               std::span<const float> weight, uint32_t rows, double eps) {
  const size_t dim = weight.size();
  std::vector<double> out(rows * dim);
  for (size_t row = 0; row < rows; ++row) {
    double squares = 0;
    for (size_t i = row * dim; i < (row + 1) * dim; ++i) {
      if (!x.empty()) (*residual)[i] += x[i];
      squares += (*residual)[i] * (*residual)[i];
    }
    const double rms = std::sqrt(squares / static_cast<double>(dim) + eps);
    for (size_t i = 0; i < dim; ++i) {
      out[row * dim + i] = (*residual)[row * dim + i] / rms * weight[i];
    }
  }
  return out;
}

double Silu(double x) { return x / (1 + std::exp(-x)); }

std::vector<double> Attention(std::span<const double> q, std::span<const double> keys,
                              std::span<const double> values, uint32_t num_positions,
                              double scale) {
  const size_t dim = q.size();
  std::vector<double> weights(num_positions);
  double largest = -INFINITY;
  for (size_t p = 0; p < num_positions; ++p) {
    for (size_t i = 0; i < dim; ++i) weights[p] += q[i] * keys[p * dim + i];
    weights[p] *= scale;
    largest = std::max(largest, weights[p]);
  }
  double sum = 0;
  for (double& weight : weights) sum += weight = std::exp(weight - largest);
  std::vector<double> out(dim);
  for (size_t p = 0; p < num_positions; ++p) {
    for (size_t i = 0; i < dim; ++i) out[i] += weights[p] / sum * values[p * dim + i];
  }
  return out;
}

}  // namespace kvs::naive
