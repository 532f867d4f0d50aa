// Attention of sequences that have one new token (decode) over the paged cache, split over the
// whole device. The split is planned on the device once per step and serves every layer.
//
// Keys are the rows of the matrix instruction and the query heads that share a KV head its columns,
// so that grouped heads read K and V once. The tiles of all (sequence, KV head) pairs stand in one
// line that is cut into equal pieces, one per block; a pair that lies in several pieces is combined
// by the block of its first piece, which waits for the others. That they come relies on blocks
// being started in the order of their index, as decoupled look-back does (Merrill & Garland 2016).
#pragma once

#include <cstdint>
#include <optional>

#include "gpu/launch.h"
#include "kvserve/backend.h"
#include "kvserve/kernel_params.h"

namespace kvs::gpu {

inline constexpr uint32_t kDecodeMaxGroup = 16;  // query heads per KV head
inline constexpr uint32_t kDecodeMaxWarps = 8;
inline constexpr uint32_t kDecodeMaxCtasPerSm = 2;

// How many tokens of a sequence, its last ones, may have been written in the same step. More than
// one where Backend::FewTokens has it given as several sequences.
inline constexpr uint32_t kDecodeMaxNewTokens = 16;

// Tokens that lie in one block, whatever its size, and how many such runs of a piece's first tiles
// the planner looks up.
inline constexpr uint32_t kDecodeRun = 16;
inline constexpr uint32_t kDecodePlannedRuns = 32;

// What the system keeps of the shared memory of a block.
inline constexpr uint32_t kDecodeSharedReserve = 1024;

// How the kernel is launched, and what its blocks take of the plan's line at a time.
struct DecodeShape {
  uint32_t tile_tokens;
  bool may_halve;       // tiles, where there are not enough of them for all blocks
  uint32_t num_warps;   // of a block
  uint32_t num_stages;  // tiles on their way at once
  uint32_t num_ctas;
  uint32_t shared_bytes;
};

// The best shape for this device and for so many pairs of a sequence and a KV head (defined beside
// the kernels' instances). None where not even the smallest fits into the shared memory that a
// block may have.
std::optional<DecodeShape> ChooseDecodeShape(KvCacheDType dtype, uint32_t head_dim, uint32_t group,
                                             uint32_t num_pairs, const DeviceFacts& facts);

// One sequence, as the attention kernel needs it.
struct DecodeSeq {
  uint32_t seq_len;
  uint32_t query_row;
  uint32_t first_tile;    // not 0 where a sliding window has left the first tiles behind
  uint32_t num_tiles;     // 0 for a sequence that is not decoded by this kernel
  uint32_t tiles_before;  // of one KV head in the sequences before
};

// Where a block's piece of the line begins, and how many tiles it has.
struct alignas(16) DecodePiece {
  uint32_t index;  // of the piece in the line
  uint32_t seq;
  uint32_t kv_head;
  uint32_t tile;
  uint32_t num_tiles;
  DecodeSeq info;  // of `seq`
};

// How the planner has cut the line.
struct DecodeCut {
  uint32_t piece_tiles;  // the last pieces may have fewer or none
  uint32_t tile_tokens;  // of the shape; or half of it, so that half of a block's warps are idle
};

// What RopeKvStore does with the newest tokens' Q, K and V, as RopeKvStoreParams.
struct DecodeRope {
  const float* cos_sin;  // null: it has been done
  const float* qkv_bias;
  const float* q_norm;
  const float* k_norm;
  unsigned long long* num_saturated;  // device memory
  float norm_eps;
};

// Whether the kernels do the work of DecodeRope (defined beside their instances).
bool DecodeFusesRope();

// Device memory; made by PagedDecode.
struct DecodePlan {
  DecodeSeq* seqs;  // [num_seqs]
  // [num_ctas], of each block. The first takes the last piece, and so on: who waits, waits for
  // blocks that the device starts earlier. Those without any tiles come last.
  DecodePiece* pieces;
  uint32_t* first_blocks;  // [num_ctas][kDecodePlannedRuns]: of the first runs of each piece
  DecodeCut* cut;          // [1]
  // Parts of pairs on their way from block to block, as words of paged_decode_merge.cuh; zero
  // between launches.
  uint4* partial_out;    // [num_ctas][group][head_dim / 4]: not yet divided by the sum
  uint2* partial_state;  // [num_ctas][group]: maximum (base 2) and sum
  DecodeShape shape;
  DecodeRope rope;  // of this launch
};

// Owns the plan's memory.
class PagedDecode {
 public:
  Result<void> Reserve(const BackendLimits& limits, const DeviceFacts& facts);
  // Plans the sequences of `params` with exactly one new token. The plan serves layers of this KV
  // dtype.
  // REQUIRES: AttentionOp::CheckSupport; no kernel since the last launch without Launch::dependent
  // has written what `params` say of the sequences, or reads the plan before.
  void Plan(const PagedAttentionParams& params, const Launch& launch);
  // `num_saturated`: where params.rope counts; device memory.
  // REQUIRES: DecodeFusesRope, where params.rope is set.
  void Run(const PagedAttentionParams& params, uint64_t* num_saturated, const Launch& launch);

 private:
  DeviceBuffer buffer_;
  DecodePlan plan_{};
};

}  // namespace kvs::gpu
