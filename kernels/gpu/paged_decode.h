// Attention of sequences that have one new token (decode) over the paged cache, split over the
// whole device. The split is planned on the device once per step and serves every layer.
//
// Keys are the rows of the matrix instruction and the query heads that share a KV head its columns,
// so that grouped heads read K and V once. The tiles of all (sequence, KV head) pairs stand in one
// line that is cut into equal pieces, one per block; pairs that lie in several pieces are combined
// by the block that finishes last (the "last block" pattern of NVIDIA's threadFenceReduction).
#pragma once

#include <cstdint>

#include "gpu/launch.h"
#include "kvserve/backend.h"
#include "kvserve/kernel_params.h"

namespace kvs::gpu {

inline constexpr uint32_t kDecodeTile = 64;      // tokens
inline constexpr uint32_t kDecodeMaxGroup = 16;  // query heads per KV head
inline constexpr uint32_t kDecodeCtasPerSm = 2;

// Tokens that one block takes at a time: four warps with 16 rows each, or 32 where rows are so
// short that twice as many hide the latency of the instructions better.
constexpr uint32_t DecodeTileTokens(KvCacheDType dtype, uint32_t head_dim) {
  return head_dim * SizeOf(dtype) <= 128 ? 128 : 64;
}

// One sequence, as the attention kernel needs it.
struct DecodeSeq {
  uint32_t seq_len;
  uint32_t query_row;
  uint32_t first_tile;  // not 0 where a sliding window has left the first tiles behind
  uint32_t num_tiles;   // 0 for a sequence that is not decoded by this kernel
};

// Where a block's piece of the line begins, and how many tiles it has.
struct DecodePiece {
  uint32_t seq;
  uint32_t kv_head;
  uint32_t tile;
  uint32_t num_tiles;
  DecodeSeq info;  // of `seq`
};

// Device memory; made by PagedDecode.
struct DecodePlan {
  DecodeSeq* seqs;        // [num_seqs]
  DecodePiece* pieces;    // [num_ctas]
  uint32_t* tile_start;   // [num_seqs + 1]: tiles of one KV head in the sequences before
  uint32_t* piece_tiles;  // [1] tiles per piece; the last pieces may have fewer or none
  float* partial_out;     // [num_ctas][2][group][head_dim], not yet divided by the sum
  float2* partial_state;  // [num_ctas][2][group]: maximum (base 2) and sum
  uint32_t* arrivals;     // [num_seqs][num_kv_heads], zero between launches
  uint32_t num_ctas;
};

// Owns the plan's memory.
class PagedDecode {
 public:
  // kInvalidArgument for a shape that no kernel serves.
  Result<void> Reserve(const BackendLimits& limits, const DeviceFacts& facts);
  // Plans the sequences of `params` with exactly one new token.
  void Plan(const PagedAttentionParams& params, const Launch& launch);
  void Run(const PagedAttentionParams& params, const Launch& launch);

 private:
  DeviceBuffer buffer_;
  DecodePlan plan_{};
};

}  // namespace kvs::gpu
