// Products on the matrix unit: tdpbf16ps multiplies up to 16 rows of A with 16 columns of B over 32
// k, where a row of B holds a pair of k side by side for each column. An element of C is summed in
// one order, k ascending by tiles of 32, so that its bits depend neither on the rows beside it nor
// on where k is cut between tiles; pairs past the end count as zeros. Subnormal inputs and results
// count as zero.
//
// Tiles: 0 to 3 are C, two of rows by two of columns; 4 and 5 rows of A; 6 and 7 columns of B. Of
// up to 16 rows C may be four of columns, and 5 columns of B.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <initializer_list>

namespace kvs::cpu {
namespace {

inline constexpr uint32_t kAmxTileRows = 16;   // and its columns
inline constexpr uint32_t kAmxTilePairs = 16;  // of k
inline constexpr uint32_t kAmxTileK = 2 * kAmxTilePairs;
inline constexpr uint32_t kAmxGroup = 2 * kAmxTileRows;  // rows and columns of one product

// What ldtilecfg reads.
struct alignas(64) AmxConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};

  constexpr void Set(uint32_t tile, uint32_t num_rows, uint32_t num_bytes) {
    rows[tile] = static_cast<uint8_t>(num_rows);
    row_bytes[tile] = static_cast<uint16_t>(num_bytes);
  }
};

// The intrinsics do not say that they read memory.
inline void AmxSeesStores() { asm volatile("" ::: "memory"); }

// For `rows` <= kAmxGroup rows of A and `pairs` <= kAmxTilePairs pairs of k a step.
inline void AmxConfigure(uint32_t rows, uint32_t pairs) {
  constexpr uint32_t kRowBytesOfC = kAmxTileRows * sizeof(float);
  const uint32_t first = rows < kAmxTileRows ? rows : kAmxTileRows;
  const uint32_t second = rows - first;
  AmxConfig config;
  for (const uint32_t tile : {0u, 1u}) config.Set(tile, first, kRowBytesOfC);
  for (const uint32_t tile : {2u, 3u}) config.Set(tile, second > 0 ? second : first, kRowBytesOfC);
  config.Set(4, first, pairs * 4);
  for (const uint32_t tile : {5u, 6u, 7u}) config.Set(tile, pairs, kAmxTileRows * 4);
  if (second > 0) config.Set(5, second, pairs * 4);
  AmxSeesStores();
  _tile_loadconfig(&config);
}

// C[rows][columns] (+)= A B over `steps` steps, as configured.
struct AmxProduct {
  const uint8_t* a;
  const uint8_t* b;
  float* c;
  size_t c_stride;  // floats from row to row
  uint32_t steps;
  bool accumulate;
};

// Of kAmxGroup columns. Rows of A and B stand kABytes and kBBytes apart. Calls ahead(step) before
// the loads of each step.
template <bool has_second, size_t kABytes, size_t kBBytes, class Ahead>
void AmxMultiply(const AmxProduct& product, const Ahead& ahead) {
  AmxSeesStores();
  const size_t c_bytes = product.c_stride * sizeof(float);
  float* const low = product.c;
  float* const high = product.c + kAmxTileRows * product.c_stride;
  if (product.accumulate) {
    _tile_loadd(0, low, c_bytes);
    _tile_loadd(1, low + kAmxTileRows, c_bytes);
    if constexpr (has_second) {
      _tile_loadd(2, high, c_bytes);
      _tile_loadd(3, high + kAmxTileRows, c_bytes);
    }
  } else {
    _tile_zero(0);
    _tile_zero(1);
    if constexpr (has_second) {
      _tile_zero(2);
      _tile_zero(3);
    }
  }
  const uint8_t* a = product.a;
  const uint8_t* b = product.b;
  for (uint32_t step = 0; step < product.steps; ++step) {
    ahead(step);
    _tile_loadd(6, b, kBBytes);
    _tile_loadd(7, b + kAmxTileRows * 4, kBBytes);
    _tile_loadd(4, a, kABytes);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    if constexpr (has_second) {
      _tile_loadd(5, a + kAmxTileRows * kABytes, kABytes);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
    a += kAmxTileK * sizeof(uint16_t);
    b += kAmxTilePairs * kBBytes;
  }
  _tile_stored(0, low, c_bytes);
  _tile_stored(1, low + kAmxTileRows, c_bytes);
  if constexpr (has_second) {
    _tile_stored(2, high, c_bytes);
    _tile_stored(3, high + kAmxTileRows, c_bytes);
  }
}

// Of up to kAmxTileRows rows and 2 * kAmxGroup columns: with fewer sums at a time each product
// would wait for the one before it.
template <size_t kABytes, size_t kBBytes, class Ahead>
void AmxMultiplyWide(const AmxProduct& product, const Ahead& ahead) {
  AmxSeesStores();
  const size_t c_bytes = product.c_stride * sizeof(float);
  float* const c = product.c;
  if (product.accumulate) {
    _tile_loadd(0, c, c_bytes);
    _tile_loadd(1, c + kAmxTileRows, c_bytes);
    _tile_loadd(2, c + 2 * kAmxTileRows, c_bytes);
    _tile_loadd(3, c + 3 * kAmxTileRows, c_bytes);
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  constexpr size_t kTileBytes = kAmxTileRows * 4;
  const uint8_t* a = product.a;
  const uint8_t* b = product.b;
  for (uint32_t step = 0; step < product.steps; ++step) {
    ahead(step);
    _tile_loadd(4, a, kABytes);
    _tile_loadd(5, b, kBBytes);
    _tile_dpbf16ps(0, 4, 5);
    _tile_loadd(6, b + kTileBytes, kBBytes);
    _tile_dpbf16ps(1, 4, 6);
    _tile_loadd(7, b + 2 * kTileBytes, kBBytes);
    _tile_dpbf16ps(2, 4, 7);
    _tile_loadd(5, b + 3 * kTileBytes, kBBytes);
    _tile_dpbf16ps(3, 4, 5);
    a += kAmxTileK * sizeof(uint16_t);
    b += kAmxTilePairs * kBBytes;
  }
  _tile_stored(0, c, c_bytes);
  _tile_stored(1, c + kAmxTileRows, c_bytes);
  _tile_stored(2, c + 2 * kAmxTileRows, c_bytes);
  _tile_stored(3, c + 3 * kAmxTileRows, c_bytes);
}

}  // namespace
}  // namespace kvs::cpu
