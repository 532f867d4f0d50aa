// Algorithms that tuning chose, and the file that keeps them between runs.
#pragma once

#include <cublasLt.h>

#include <bit>
#include <compare>
#include <cstdint>
#include <map>
#include <string>

namespace kvs::gpu {

// What is multiplied: 16 bits, or FP8 codes, whose sums the library scales by rows, or leaves.
enum class BlasLtKind : uint8_t { k16Bits, kFp8, kFp8Sums };

// One product: out [num_rows, out_features] = x [num_rows, in_features] * W^T.
struct BlasLtShape {
  uint32_t num_rows;
  uint32_t out_features;
  uint32_t in_features;
  bool out_is_f32;
  BlasLtKind kind = BlasLtKind::k16Bits;
  auto operator<=>(const BlasLtShape&) const = default;

  // The shape that was tuned for this one: its rows rounded up to a power of two.
  BlasLtShape Bucket() const {
    return {std::bit_ceil(num_rows), out_features, in_features, out_is_f32, kind};
  }
};

using BlasLtAlgorithms = std::map<BlasLtShape, cublasLtMatmulAlgo_t>;

// What the file holds; nothing when there is none. Lines that cannot be read are passed over: their
// shapes are tuned anew.
BlasLtAlgorithms ReadBlasLtCache(const std::string& path);

// Replaces the file in one step, and makes its directory. A failure is silent: the next start tunes
// again.
void WriteBlasLtCache(const std::string& path, const BlasLtAlgorithms& algorithms);

}  // namespace kvs::gpu
