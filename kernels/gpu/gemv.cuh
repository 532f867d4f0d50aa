// Device half of gemv.cu.
//
// A CTA is 8 warps. With split = 1 its tile is 16 rows of W, and warp w runs over segment w of
// them. With split = 2, 4, 8 the tile is 16 * split rows and the CTA holds kNumSegments / split
// segments (so that its part of x fits into shared memory); the CTA that finishes a tile last adds
// up the segments of all. A CTA keeps its segments and walks over tiles.
//
// The weights go through a ring in shared memory, kGemvDepth steps of 16 rows for each warp, that
// never drains: it runs on from tile to tile, and starts to fill before the kernel in front has
// finished. A lane copies what it will multiply itself, so nobody waits for anyone until a tile's
// end.
#pragma once

#include "gpu/async_copy.cuh"
#include "gpu/linear_kernels.h"
#include "gpu/mma.cuh"
#include "gpu/stream_load.cuh"

namespace kvs::gpu {

struct GemvParams {
  const void* x;       // [num_rows, in_features]
  const void* weight;  // [out_features, in_features]
  void* out;           // [num_rows, out_features]
  float* partials;     // [kNumSegments, num_rows, out_features] when split > 1
  uint32_t* counters;  // [number of tiles] when split > 1
  uint32_t num_rows;
  uint32_t in_features;
  uint32_t out_features;
  uint32_t split;
  bool out_is_f32;
};

inline constexpr uint32_t kGemvThreads = 8 * kWarpSize;
inline constexpr uint32_t kGemvDepth = 8;  // steps in flight per warp: 1 KiB each

// Elements of a row of x in shared memory. An odd number of steps puts neighbouring rows into
// different halves of the banks.
constexpr uint32_t GemvSharedStride(uint32_t in_features, uint32_t split) {
  return (SegmentSteps(in_features) * (kNumSegments / split) | 1) * kStepK;
}

// Which part of the product a warp computes.
struct GemvPlace {
  uint32_t lane_row, lane_piece;  // g, t of mma.cuh
  uint32_t segments_per_cta;
  uint32_t first_segment;  // of the CTA
  uint32_t segment;        // of the warp, counted in the CTA
  uint32_t row_in_tile;    // the first of the warp's 16
  uint32_t tile_rows;
  uint32_t num_tiles;
  uint32_t segment_steps;  // of every segment but perhaps the last ones
  uint32_t num_steps;      // of this warp's segment; 0 when in_features is short

  KVS_DEVICE explicit GemvPlace(const GemvParams& params) {
    const uint32_t lane = threadIdx.x % kWarpSize, warp = threadIdx.x / kWarpSize;
    lane_row = lane / 4;
    lane_piece = lane % 4;
    segments_per_cta = kNumSegments / params.split;
    first_segment = blockIdx.x % params.split * segments_per_cta;
    segment = warp % segments_per_cta;
    row_in_tile = warp / segments_per_cta * 16;
    tile_rows = 16 * params.split;
    num_tiles = CeilDiv(params.out_features, tile_rows);
    segment_steps = SegmentSteps(params.in_features);
    const uint32_t all_steps = NumSteps(params.in_features);
    const uint32_t begin = min((first_segment + segment) * segment_steps, all_steps);
    num_steps = min(segment_steps, all_steps - begin);
  }
};

// The steps of one warp in shared memory, as each lane's pieces of rows g and g + 8.
struct GemvRing {
  uint4 low[kGemvDepth][kWarpSize];
  uint4 high[kGemvDepth][kWarpSize];
};

// Walks over the weights of a warp, step after step and tile after tile.
template <class T>
class GemvCursor {
 public:
  KVS_DEVICE GemvCursor(const GemvParams& params, const GemvPlace& place)
      : params_(params), place_(place), tile_(blockIdx.x / params.split) {
    const uint32_t begin = (place.first_segment + place.segment) * place.segment_steps * kStepK;
    first_k_ = begin + place.lane_piece * 8;
    end_k_ = min(begin + place.num_steps * kStepK, params.in_features);
    StartTile();
  }

  // Starts to copy the lane's pieces of the next step to `slot`, as one group of copies.
  KVS_DEVICE void Copy(GemvRing& ring, uint32_t slot) {
    const uint32_t lane = threadIdx.x % kWarpSize;
    if (tile_ < place_.num_tiles) {
      StreamCopy16(&ring.low[slot][lane], row_low_ + k_, k_ < end_k_);
      StreamCopy16(&ring.high[slot][lane], row_high_ + k_, k_ < end_k_);
    }
    CommitAsyncCopies();
    Skip(1);
  }

  // Brings the next `num_steps` steps, or what is left of the tile, to the second-level cache.
  KVS_DEVICE void Prefetch(uint32_t num_steps) {
    const uint32_t k = k_ - place_.lane_piece * 8;
    if (tile_ < place_.num_tiles && place_.lane_piece < 2 && k < end_k_) {
      PrefetchToL2((place_.lane_piece == 0 ? row_low_ : row_high_) + k,
                   min(end_k_ - k, num_steps * kStepK) * static_cast<uint32_t>(sizeof(T)));
    }
    Skip(num_steps);
  }

 private:
  KVS_DEVICE void Skip(uint32_t num_steps) {
    k_ += num_steps * kStepK;
    if (k_ < end_k_ + place_.lane_piece * 8) return;
    tile_ += gridDim.x / params_.split;
    StartTile();
  }

  KVS_DEVICE void StartTile() {
    k_ = first_k_;
    const uint32_t row = tile_ * place_.tile_rows + place_.row_in_tile + place_.lane_row;
    const uint32_t last = params_.out_features - 1;
    const T* weight = static_cast<const T*>(params_.weight);
    row_low_ = weight + size_t{min(row, last)} * params_.in_features;
    row_high_ = weight + size_t{min(row + 8, last)} * params_.in_features;
  }

  const GemvParams& params_;
  const GemvPlace& place_;
  uint32_t tile_;
  uint32_t first_k_, end_k_, k_;
  const T* row_low_;
  const T* row_high_;
};

}  // namespace kvs::gpu
