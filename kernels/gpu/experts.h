// ExpertOps: the three ops of mixture-of-experts layers (kernel_params.h). The rows of one expert
// are brought together by a list that the device makes, so that its weights are read once for
// several of them; a row's result depends on that row and its expert alone, bit for bit.
#pragma once

#include <cstdint>

#include "gpu/launch.h"
#include "kvserve/backend.h"
#include "kvserve/kernel_params.h"
#include "kvserve/status.h"

namespace kvs::gpu {

inline constexpr uint32_t kMaxExperts = 256;  // of a layer
inline constexpr uint32_t kMaxTopK = 32;

class ExpertOps {
 public:
  // Takes all memory for calls within `limits`. kInvalidArgument for more experts than these.
  Result<void> Reserve(const BackendLimits& limits);

  void Route(const RouteExpertsParams& params, const Launch& launch) const;
  // The experts are GpuWeights of launch.act; in_features is a multiple of 8.
  void Linear(const ExpertLinearParams& params, const Launch& launch) const;
  // dim is a multiple of 8.
  void Combine(const CombineExpertsParams& params, const Launch& launch) const;

 private:
  DeviceBuffer order_;  // uint32 [rows]
  DeviceBuffer tiles_;  // ExpertTile [tiles]
  DeviceBuffer num_tiles_;
  uint32_t max_rows_ = 0;
};

// Up to ExpertTiling::tile_rows rows of one expert.
struct ExpertTile {
  uint32_t expert;
  uint32_t first;  // its rows are order[first], order[first + 1] ..
  uint32_t count;
};

struct ExpertTiling {
  const uint32_t* expert_ids;  // [num_rows]
  uint32_t* order;             // [num_rows] rows, expert by expert
  ExpertTile* tiles;           // [MaxTiles]
  uint32_t* num_tiles;         // [1]
  uint32_t num_rows;
  uint32_t num_experts;
  uint32_t tile_rows;

  constexpr uint32_t MaxTiles() const {
    const uint32_t full = num_rows / tile_rows + num_experts;
    return full < num_rows ? full : num_rows;
  }
};

// expert_tiling.cu: fills order, tiles and num_tiles.
void TileExperts(const ExpertTiling& tiling, const Launch& launch);

// expert_linear.cu: one matrix product per tile.
struct ExpertGemm {
  const void* weights[kMaxExperts];  // [out_features, in_features] each
  const void* x;                     // [*, in_features]
  void* out;                         // [num_rows, out_features]
  ExpertTiling tiling;
  uint32_t rows_per_x;
  uint32_t in_features;
  uint32_t out_features;
};
// Rows of a tile, for so many rows in all.
uint32_t ExpertTileRows(uint32_t num_rows, uint32_t num_experts);
void MultiplyExperts(const ExpertGemm& gemm, const Launch& launch);

// expert_rows.cu
void RouteExperts(const RouteExpertsParams& params, const Launch& launch);
void CombineExperts(const CombineExpertsParams& params, const Launch& launch);

}  // namespace kvs::gpu
