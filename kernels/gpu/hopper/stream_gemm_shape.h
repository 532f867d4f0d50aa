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

// Columns of x and W that the copy engine brings side by side, swizzled: a panel.
inline constexpr uint32_t kPanelColumns = 64;
inline constexpr uint32_t kMaxGemmPanels = 2;
// Panels of a stage. Memory is fastest where it is read in long runs, and the fewer rows a stage
// has of x and W, the more columns it can have.
constexpr uint32_t GemmPanels(uint32_t columns, uint32_t rows) {
  return columns + rows <= 192 ? kMaxGemmPanels : 1;
}

// One wave of as many CTAs as there can be, with the widest tiles of those, past which x is brought
// the least often. Where even the widest are too many for one wave, those. CTAs that share a tile
// have something to bring each.
constexpr GemmShape ChooseGemmShape(uint32_t out_features, uint32_t in_features,
                                    uint32_t processors) {
  GemmShape best = {};
  for (const uint32_t columns : kGemmColumns) {
    const uint32_t num_tiles = CeilDiv(out_features, columns);
    if (best.num_tiles == 0) best = {columns, 1, num_tiles};
    for (const uint32_t split : {1u, 2u}) {
      const uint32_t num_ctas = num_tiles * split, best_ctas = best.num_tiles * best.split;
      const bool fits = num_ctas <= processors;
      if (split > 1 && (!fits || in_features <= kMaxGemmPanels * kPanelColumns)) continue;
      if (best_ctas > processors || (fits && num_ctas >= best_ctas)) {
        best = {columns, split, num_tiles};
      }
    }
  }
  return best;
}

}  // namespace kvs::gpu
