// Device half of gemv.cu.
//
// A CTA is 8 warps. With split = 1 its tile is 16 rows of W, and warp w runs over a pair of slices
// of them, 2w and 2w + 1, which lie side by side in every period. With split = 2, 4, 8 the tile is
// 16 * split rows and the CTA holds kNumPairs / split pairs, so that its part of x fits into shared
// memory. A CTA keeps its pairs and walks over tiles; `split` CTAs in a row, a team, walk over the
// same ones, and the last of them to finish adds up the slices of all.
//
// The weights go through a ring in shared memory, num_groups groups of a pair's columns in one
// period of 16 rows for each warp, that never drains: it runs on from tile to tile, and fills
// before the kernel in front has finished. A warp copies what it will multiply itself, so that
// nobody waits for another warp until a tile's end; 16 lanes copy 256 bytes of a row, because
// memory and its cache deliver half as much when asked for half lines.
//
// One CTA has a multiprocessor for itself: with room for two, some multiprocessors would get two
// and others none, as the CTAs of the kernel in front leave.
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
  float* partials;     // [kNumSlices, num_rows, out_features] when split > 1
  uint32_t* counters;  // [number of teams] when split > 1
  uint32_t num_rows;
  uint32_t in_features;
  uint32_t out_features;
  uint32_t split;
  uint32_t num_groups;  // of a warp's ring, 2 to kMaxRingGroups
  bool out_is_f32;
};

inline constexpr uint32_t kGemvWarps = 8;
inline constexpr uint32_t kGemvThreads = kGemvWarps * kWarpSize;
inline constexpr uint32_t kNumPairs = kNumSlices / 2;
inline constexpr uint32_t kPairColumns = 2 * kSliceColumns;
inline constexpr uint32_t kGroupSteps = kPairColumns / kStepK;
static_assert(kNumPairs == kGemvWarps);
inline constexpr uint32_t kMaxRingGroups = 5;

// Elements of a row of x in shared memory: period after period, the CTA's pairs of each. An odd
// number of steps puts neighbouring rows into different halves of the banks.
constexpr uint32_t GemvSharedStride(uint32_t in_features, uint32_t split) {
  return (NumPeriods(in_features) * (kNumPairs / split) * kGroupSteps | 1) * kStepK;
}

// Which part of the product a warp computes.
struct GemvPlace {
  uint32_t lane_row, lane_piece;  // g, t of mma.cuh
  uint32_t team, num_teams;
  uint32_t pairs_per_cta;
  uint32_t first_pair;   // of the CTA
  uint32_t pair;         // of the warp, counted in the CTA
  uint32_t row_in_tile;  // the first of the warp's 16
  uint32_t tile_rows;
  uint32_t num_tiles;
  uint32_t begin_k;      // of the warp's pair in the first period
  uint32_t num_periods;  // that hold some of the pair; 0 when in_features is short

  KVS_DEVICE explicit GemvPlace(const GemvParams& params) {
    const uint32_t lane = threadIdx.x % kWarpSize, warp = threadIdx.x / kWarpSize;
    lane_row = lane / 4;
    lane_piece = lane % 4;
    team = blockIdx.x / params.split;
    num_teams = gridDim.x / params.split;
    pairs_per_cta = kNumPairs / params.split;
    first_pair = blockIdx.x % params.split * pairs_per_cta;
    pair = warp % pairs_per_cta;
    row_in_tile = warp / pairs_per_cta * 16;
    tile_rows = 16 * params.split;
    num_tiles = CeilDiv(params.out_features, tile_rows);
    begin_k = (first_pair + pair) * kPairColumns;
    num_periods = NumPeriods(params.in_features - min(begin_k, params.in_features));
  }
};

// A group of one warp in shared memory, [row][16-byte piece]. Pieces of odd rows are exchanged
// across the middle of the row, so that the pieces t of two neighbouring rows g lie in different
// banks.
struct GemvGroup {
  static constexpr uint32_t kRowPieces = kGroupSteps * kStepK / 8;
  uint4 pieces[16][kRowPieces];

  KVS_DEVICE static constexpr uint32_t Place(uint32_t row, uint32_t piece) {
    return piece ^ (row % 2 * 4);
  }
  // Lane t's piece of a step.
  KVS_DEVICE const uint4& At(uint32_t row, uint32_t step, uint32_t t) const {
    return pieces[row][Place(row, step * 4 + t)];
  }
};

// Walks over the weights of a warp, group after group and tile after tile. What of a group lies
// beyond a row is zeros.
template <class T>
class GemvCursor {
 public:
  KVS_DEVICE GemvCursor(const GemvParams& params, const GemvPlace& place)
      : params_(params), place_(place), tile_(place.team) {
    const uint32_t lane = threadIdx.x % kWarpSize;
    row_ = lane / GemvGroup::kRowPieces;
    piece_ = lane % GemvGroup::kRowPieces;
    k_ = place.begin_k;
  }

  // Starts to copy the next group, as one group of copies; past the last tile an empty one.
  KVS_DEVICE void Copy(GemvGroup& to) {
    constexpr uint32_t kRowsAtOnce = kWarpSize / GemvGroup::kRowPieces;
    if (tile_ < place_.num_tiles) {
      const uint32_t first_row = tile_ * place_.tile_rows + place_.row_in_tile;
      const uint32_t last_row = params_.out_features - 1;
      const uint32_t k = k_ + piece_ * 8;
      const T* from = static_cast<const T*>(params_.weight) + k;
#pragma unroll
      for (uint32_t i = 0; i < 16; i += kRowsAtOnce) {
        const uint32_t row = row_ + i;
        StreamCopy16(&to.pieces[row][GemvGroup::Place(row, piece_)],
                     from + size_t{min(first_row + row, last_row)} * params_.in_features,
                     k < params_.in_features);
      }
    }
    CommitAsyncCopies();
    k_ += kPeriod;
    if (k_ < params_.in_features) return;
    k_ = place_.begin_k;
    tile_ += place_.num_teams;
  }

 private:
  const GemvParams& params_;
  const GemvPlace& place_;
  uint32_t row_, piece_;  // the lane's place in the rows that the warp copies at once
  uint32_t tile_, k_;     // of the next group
};

}  // namespace kvs::gpu
