#include <immintrin.h>

#include "bench/machine_peaks.h"

namespace kvs::bench {

void RunTileLoop(uint64_t count) {
  struct alignas(64) {
    uint8_t palette = 1;
    uint8_t reserved[15] = {};
    uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
  } config;
  _tile_loadconfig(&config);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  // Numbers of all kinds: zeros would be multiplied at up to twice the speed that data can have.
  alignas(64) uint16_t numbers[4][16][32];
  uint32_t state = 1;
  for (auto& tile : numbers) {
    for (auto& row : tile) {
      for (uint16_t& number : row) {
        state = state * 1664525 + 1013904223;
        number = static_cast<uint16_t>((state >> 16 & 0x807f) | 0x3c80);  // +- 1/64 .. 1/32
      }
    }
  }
  constexpr int kRowBytes = 64;
  _tile_loadd(4, numbers[0], kRowBytes);
  _tile_loadd(5, numbers[1], kRowBytes);
  _tile_loadd(6, numbers[2], kRowBytes);
  _tile_loadd(7, numbers[3], kRowBytes);
  for (uint64_t i = 0; i < count; ++i) {
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  _tile_release();
}

}  // namespace kvs::bench
