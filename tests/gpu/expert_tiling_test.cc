// How many tiles there can be at most: needs no device.
#include <gtest/gtest.h>

#include <algorithm>

#include "gpu/experts.h"

namespace kvs::gpu {
namespace {

// Tiles of the worst routing: as many experts as can have one row too many for whole tiles.
uint32_t WorstTiles(uint32_t num_rows, uint32_t num_experts, uint32_t tile_rows) {
  uint32_t most = 0;
  for (uint32_t single = 0; single <= std::min(num_rows, num_experts); ++single) {
    // `single` experts with one row each, the rest of the rows with one expert more if there is.
    const uint32_t left = num_rows - single;
    if (left > 0 && single == num_experts) continue;
    most = std::max(most, single + (left + tile_rows - 1) / tile_rows);
  }
  return most;
}

TEST(ExpertTiling, EveryRoutingFits) {
  for (const uint32_t num_experts : {1u, 2u, 8u, 128u}) {
    for (uint32_t num_rows = 1; num_rows < 600; ++num_rows) {
      ExpertTiling tiling{};
      tiling.num_rows = num_rows;
      tiling.num_experts = num_experts;
      tiling.tile_rows = ExpertTileRows(num_rows, num_experts);
      EXPECT_GE(tiling.MaxTiles(), WorstTiles(num_rows, num_experts, tiling.tile_rows))
          << num_rows << " rows, " << num_experts << " experts";
    }
  }
}

}  // namespace
}  // namespace kvs::gpu
