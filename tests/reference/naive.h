// The operations of include/kvserve/kernel_params.h in float64, contiguous and without tricks:
// what kernels are held to.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kvserve/dtype.h"

namespace kvs::naive {

// The value that storing `value` as dtype and reading it back gives.
double RoundTo(double value, DType dtype);
double RoundTo(double value, KvCacheDType dtype);

// out[rows][out_features] = x[rows][in_features] * w[out_features][in_features]^T
std::vector<double> Linear(std::span<const float> x, std::span<const float> w, uint32_t rows,
                           uint32_t in_features, uint32_t out_features);

// residual += x (when not empty); returns residual / rms(residual) * weight.
std::vector<double> AddRmsNorm(std::vector<double>* residual, std::span<const float> x,
                               std::span<const float> weight, uint32_t rows, double eps);

double Silu(double x);

// One query over `num_positions` keys and values [num_positions][head_dim] of its KV head.
std::vector<double> Attention(std::span<const double> q, std::span<const double> keys,
                              std::span<const double> values, uint32_t num_positions, double scale);

}  // namespace kvs::naive
