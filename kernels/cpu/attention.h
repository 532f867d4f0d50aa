// PagedAttention over query tiles: the queries of consecutive tokens, times the heads that share a
// KV head, stand as rows; keys and values pass by in ranges of kRangePositions. A range yields a
// partial softmax state per row; states are merged in the order of the ranges, whether one task
// took all of them or several tasks took some each.
//
// Why a row's bits do not depend on its company: ranges and the tiles within them lie at absolute
// positions, every element of Q K^T and P V is summed in one order (tile.inl, amx.inl), a position
// that a row may not see enters with probability exactly 0 against a finite or zeroed value, and a
// range of which a row sees nothing does not enter its state at all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "cpu/thread_pool.h"
#include "kvserve/backend.h"

namespace kvs::cpu {

inline constexpr uint32_t kRangePositions = 512;
inline constexpr uint32_t kPanelDims = 64;      // dims of V side by side
inline constexpr uint32_t kMaxQueryRows = 192;  // rows of one query tile
inline constexpr uint32_t kQueryBlockDims = 256;
// A dim of all the keys (values) that are unpacked at a time.
inline constexpr uint32_t kUnpackedDimBytes = 256;

// Row strides that are not multiples of 4096, so that rows of a tile spread over the cache's sets.
inline constexpr size_t kScoreRowBytes = kRangePositions * sizeof(float) + 64;
inline constexpr size_t kQueryRowBytes = kQueryBlockDims * sizeof(float) + 64;

constexpr uint32_t PaddedDim(uint32_t head_dim) {
  return (head_dim + kPanelDims - 1) / kPanelDims * kPanelDims;
}

// A row's softmax state in floats: the weighted sum of V over PaddedDim dims, then the largest
// score and the sum of exp(score - largest).
constexpr size_t StateStride(uint32_t head_dim) { return PaddedDim(head_dim) + 16; }

// The values of the 256 FP8 codes, and of the first 128 the two bytes of their bf16 (all exact).
struct alignas(64) Fp8Table {
  uint8_t bf16_low[128];
  uint8_t bf16_high[128];
  float values[256];
};

// Rows of one KV head: num_tokens * group_size, token by token.
struct QueryTile {
  const float* q;         // first token, first head of the group
  size_t q_token_stride;  // floats
  const uint8_t* kv;      // the head's keys in block 0
  size_t block_bytes;     // from a block to the next
  size_t v_bytes;         // from a block's keys to its values
  const BlockId* blocks;  // the sequence's block table
  const Fp8Table* fp8;    // of dtype, when it is an FP8 one
  KvCacheDType dtype;
  uint32_t block_size;
  uint32_t head_dim;
  uint32_t group_size;
  uint32_t first_position;  // of the first token
  uint32_t num_tokens;
  float scale;      // of a score: sm_scale * k_scale; > 0
  uint32_t window;  // positions that a row sees, its own included; 0: all up to its own

  uint32_t num_rows() const { return num_tokens * group_size; }
  uint32_t end_position() const { return first_position + num_tokens; }
  uint32_t PositionOf(uint32_t row) const { return first_position + row / group_size; }
  // The first row at `position` or later.
  uint32_t RowAt(uint64_t position) const {
    if (position <= first_position) return 0;
    return position >= end_position()
               ? num_rows()
               : (static_cast<uint32_t>(position) - first_position) * group_size;
  }
  // The first position that the row at `position` sees.
  uint32_t FirstSeen(uint32_t position) const {
    return window == 0 || position < window ? 0 : position - window + 1;
  }
  // Rows [FirstRow, EndRow) see some position of `range`. Of these, [FirstRow, FreshRow) have seen
  // earlier ranges, and [FreshRow, EndRow) see nothing before it.
  uint32_t FirstRow(uint32_t range) const { return RowAt(uint64_t{range} * kRangePositions); }
  uint32_t FreshRow(uint32_t range) const {
    if (range == 0) return 0;
    return window == 0 ? num_rows() : RowAt(uint64_t{range} * kRangePositions + window - 1);
  }
  uint32_t EndRow(uint32_t range) const { return FreshRow(range + 1); }
};

// Memory of one thread; its contents are of no meaning between calls of `attend` but for `q`.
struct AttentionScratch {
  uint8_t* q;       // [blocks of kQueryBlockDims][kMaxQueryRows][kQueryRowBytes at most]
  uint8_t* scores;  // [query_rows][kScoreRowBytes]
  // A tile of keys and, once the range has its scores, of values: one place, which stays in the
  // first cache. PaddedDim * kUnpackedDimBytes.
  uint8_t* unpacked;
  float* partial;  // [query_rows][StateStride]
  float* state;    // as partial
};

struct AttentionKernels {
  uint32_t query_rows;  // of a query tile at most; at most kMaxQueryRows
  // Rewrites the tile's queries into scratch.q, in the format `attend` reads.
  void (*pack_queries)(const QueryTile& tile, const AttentionScratch& scratch);
  // Partial states over the range's positions, for rows [tile.FirstRow(range),
  // tile.EndRow(range)).
  void (*attend)(const QueryTile& tile, uint32_t range, const AttentionScratch& scratch,
                 float* partial);
  // state = merge(state, partial) for rows [first_row, end_row).
  void (*merge)(float* state, const float* partial, uint32_t first_row, uint32_t end_row,
                uint32_t head_dim);
  // out[head_dim] = the state's normalized sum times v_scale.
  void (*finish)(const float* state, uint32_t head_dim, float v_scale, float* out);
};

class AttentionOp {
 public:
  explicit AttentionOp(const AttentionKernels& kernels);

  // Takes all scratch memory for calls within `limits`.
  Result<void> Reserve(const BackendLimits& limits, uint32_t num_threads);
  void Run(const PagedAttentionParams& params, ThreadPool& pool);

 private:
  // Some ranges of one query tile of one sequence, for every KV head.
  struct Unit {
    uint32_t seq;
    uint32_t first_token;  // within the new tokens of the sequence
    uint32_t num_tokens;
    uint32_t first_range;
    uint32_t end_range;
    uint32_t tile_first_range;  // of the tile; the unit has all of them unless the tile is split
    uint32_t tile_end_range;
    size_t partials;  // index of the tile's first partial row, for a split tile
    uint32_t num_ranges() const { return tile_end_range - tile_first_range; }
    bool split() const { return end_range - first_range < num_ranges(); }
  };

  void PlanUnits(const PagedAttentionParams& params, uint32_t num_threads);
  void PlanTile(const Unit& tile, uint32_t num_heads, uint32_t max_ranges);
  QueryTile MakeTile(const PagedAttentionParams& params, const Unit& unit, uint32_t kv_head) const;
  float* Partial(const QueryTile& tile, const Unit& unit, uint32_t kv_head, uint32_t range) const;
  // Takes the partial states of one range into the tile's states.
  void Absorb(const QueryTile& tile, uint32_t range, const float* partial, float* state) const;
  void RunUnit(const PagedAttentionParams& params, const Unit& unit, uint32_t kv_head,
               const AttentionScratch& scratch);
  void MergeSplitTile(const PagedAttentionParams& params, const Unit& unit, uint32_t kv_head,
                      const AttentionScratch& scratch);
  void Finish(const PagedAttentionParams& params, const Unit& unit, const QueryTile& tile,
              uint32_t kv_head, const float* state) const;

  Fp8Table e4m3_;
  Fp8Table e5m2_;
  const AttentionKernels& kernels_;
  DeviceBuffer memory_;
  std::vector<AttentionScratch> scratch_;  // [num_threads]
  float* partials_ = nullptr;              // [partials_capacity_][StateStride]
  size_t partials_capacity_ = 0;           // rows
  size_t partials_used_ = 0;
  std::vector<Unit> units_;
  std::vector<Unit> split_tiles_;
};

}  // namespace kvs::cpu
