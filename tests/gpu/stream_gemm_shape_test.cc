// How weights are cut for some tens of rows: needs no device.
#include "gpu/hopper/stream_gemm_shape.h"

#include <gtest/gtest.h>

namespace kvs::gpu {
namespace {

TEST(StreamGemmShape, CoversEveryWeightAndNeverWaitsForASecondWave) {
  for (const uint32_t processors : {1u, 2u, 7u, 78u, 114u, 132u}) {
    for (const uint32_t in_features : {64u, 128u, 192u, 4096u}) {
      for (uint32_t out_features = 8; out_features < 140000;
           out_features += 8 + out_features / 50) {
        const GemmShape shape = ChooseGemmShape(out_features, in_features, processors);
        EXPECT_EQ(shape.num_tiles, CeilDiv(out_features, shape.columns));
        EXPECT_TRUE(shape.split == 1 || shape.split == 2);
        if (shape.split == 1) continue;
        // Two that share a tile wait for each other, and have nothing but it.
        EXPECT_LE(shape.num_tiles * shape.split, processors) << out_features;
        EXPECT_GT(in_features, kMaxGemmPanels * kPanelColumns);
      }
    }
  }
}

TEST(StreamGemmShape, FillsAnH100WithTheLayersOfALargeModel) {
  const auto num_ctas = [](uint32_t out_features, uint32_t in_features) {
    const GemmShape shape = ChooseGemmShape(out_features, in_features, 132);
    return shape.num_tiles * shape.split;
  };
  EXPECT_EQ(num_ctas(6144, 4096), 128u);
  EXPECT_EQ(num_ctas(4096, 4096), 128u);
  EXPECT_EQ(num_ctas(28672, 4096), 128u);
  EXPECT_EQ(num_ctas(4096, 14336), 128u);
  // More than a wave: the widest tiles.
  EXPECT_EQ(ChooseGemmShape(128256, 4096, 132).columns, 256u);
}

}  // namespace
}  // namespace kvs::gpu
