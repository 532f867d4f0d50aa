// How stream_gemm.cuh cuts a weight.
#pragma once

#include <cstdint>

#include "gpu/linear_kernels.h"

namespace kvs::gpu {

struct GemmShape {
  uint32_t columns;  // of a tile: one of kGemmColumns
  uint32_t split;    // CTAs that share a tile: 1, or 2 where all tiles together are one wave
  uint32_t num_tiles;
};
inline constexpr uint32_t kGemmColumns[] = {64, 96, 128, 192, 224, 256};

// One wave of as many CTAs as there can be, with the widest tiles of those, past which x is brought
// the least often. Where even the widest are too many for one wave, those. CTAs that share a tile
// have at least one chunk of `chunk_columns` each.
constexpr GemmShape ChooseGemmShape(uint32_t out_features, uint32_t in_features,
                                    uint32_t chunk_columns, uint32_t processors) {
  GemmShape best = {};
  for (const uint32_t columns : kGemmColumns) {
    const uint32_t num_tiles = CeilDiv(out_features, columns);
    if (best.num_tiles == 0) best = {columns, 1, num_tiles};
    for (const uint32_t split : {1u, 2u}) {
      const uint32_t num_ctas = num_tiles * split, best_ctas = best.num_tiles * best.split;
      const bool fits = num_ctas <= processors;
      if (split > 1 && (!fits || in_features <= chunk_columns)) continue;
      if (best_ctas > processors || (fits && num_ctas >= best_ctas)) {
        best = {columns, split, num_tiles};
      }
    }
  }
  return best;
}

}  // namespace kvs::gpu
