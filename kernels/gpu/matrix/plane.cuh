// The way of cached K and V into shared memory as 16x16 tiles of 16-bit elements (matrix.cuh): of
// keys, tiles of 16 positions by 16 dimensions; of values, transposed, tiles of 16 dimensions by 16
// positions. A plane waits in registers between its load and its store, so that it is on its way
// while the plane before is used. FP8 is widened as it is stored.
#pragma once

#include "gpu/kv_read.cuh"
#include "gpu/matrix.cuh"
#include "kvserve/kernel_params.h"

namespace kvs::gpu {

// 16 positions that lie in one block of the cache, so that their rows follow one another, shared
// out to kLanes lanes. `rows` is the first. All of them are read, whether the sequence has got
// there or not: scores of keys that it has not are removed, and values from row `num_valid` on
// become zero, since a weight of zero does not remove a NaN.
template <KvCacheDType dtype, uint32_t kHeadDim, uint32_t kLanes>
class PlaneCopy {
 public:
  static constexpr uint32_t kDimTiles = kHeadDim / 16;
  static constexpr uint32_t kPlaneBytes = kDimTiles * kTileBytes;  // as tiles

  // A lane takes pieces of single positions.
  KVS_DEVICE void LoadKeys(const uint8_t* rows, uint32_t lane) {
#pragma unroll
    for (uint32_t i = 0; i < kLoads; ++i) {
      pieces_[i] = reinterpret_cast<const uint4*>(rows)[(i * kLanes + lane) % kUnits];
    }
  }

  // A lane takes pieces of two neighbouring positions.
  KVS_DEVICE void LoadValues(const uint8_t* rows, uint32_t lane) {
#pragma unroll
    for (uint32_t i = 0; i < kPairLoads; ++i) {
      const PairUnit unit((i * kLanes + lane) % (kUnits / 2));
      const auto* from = reinterpret_cast<const uint4*>(rows) + unit.row * kRowPieces + unit.piece;
      pieces_[2 * i] = from[0];
      pieces_[2 * i + 1] = from[kRowPieces];
    }
  }

  // As the tiles dims / 16 at `to`.
  KVS_DEVICE void StoreKeys(uint8_t* to, uint32_t lane) const {
#pragma unroll
    for (uint32_t i = 0; i < kLoads; ++i) {
      const uint32_t unit = i * kLanes + lane;
      if (kUnits % kLanes != 0 && unit >= kUnits) break;
      const uint32_t row = unit / kRowPieces, piece = unit % kRowPieces;
      const uint32_t tile = piece * kPieceDims / 16;
      auto* halves = reinterpret_cast<uint4*>(to + TileRowOffset(tile, row, tile));
      if constexpr (kIsFp8) {
        halves[0] = Widen8(pieces_[i].x, pieces_[i].y);
        halves[1] = Widen8(pieces_[i].z, pieces_[i].w);
      } else {
        halves[piece % 2] = pieces_[i];
      }
    }
  }

  // As the tiles dims / 16 at `to`, transposed.
  KVS_DEVICE void StoreValues(uint8_t* to, uint32_t num_valid, uint32_t lane) const {
#pragma unroll
    for (uint32_t i = 0; i < kPairLoads; ++i) {
      const PairUnit unit(i * kLanes + lane);
      if (kUnits / 2 % kLanes != 0 && unit.row >= 16) break;
      const uint32_t keep = unit.row + 1 < num_valid ? 0xffffffffu
                            : unit.row < num_valid   ? 0xffffu
                                                     : 0;
      uint32_t first[kPieceDims / 2], second[kPieceDims / 2];
      Elements(pieces_[2 * i], first);
      Elements(pieces_[2 * i + 1], second);
#pragma unroll
      for (uint32_t j = 0; j < kPieceDims; ++j) {
        const uint32_t dim = unit.piece * kPieceDims + j;
        const uint32_t low = first[j / 2], high = second[j / 2];
        const uint32_t pair =
            j % 2 == 0 ? (low & 0xffffu) | high << 16 : low >> 16 | (high & 0xffff0000u);
        uint8_t* row = to + TileRowOffset(dim / 16, dim % 16, dim / 8);
        reinterpret_cast<uint32_t*>(row)[unit.row / 2] = pair & keep;
      }
    }
  }

  KVS_DEVICE static MatrixOperand KeyOperand(const uint8_t* keys, uint32_t tile, uint32_t lane) {
    return LoadOperand(keys + TileRowOffset(tile, lane % 16, tile), lane);
  }
  KVS_DEVICE static MatrixOperand ValueOperand(const uint8_t* values, uint32_t tile,
                                               uint32_t lane) {
    return LoadOperand(values + TileRowOffset(tile, lane % 16, 2 * tile + lane % 16 / 8), lane);
  }

 private:
  using Read = KvRead<dtype>;
  static constexpr bool kIsFp8 = SizeOf(dtype) == 1;
  static constexpr uint32_t kPieceDims = 16 / SizeOf(dtype);
  static constexpr uint32_t kRowPieces = kHeadDim / kPieceDims;
  static constexpr uint32_t kUnits = 16 * kRowPieces;
  static constexpr uint32_t kLoads = (kUnits + kLanes - 1) / kLanes;
  static constexpr uint32_t kPairLoads = (kUnits / 2 + kLanes - 1) / kLanes;
  static constexpr uint32_t kHeld = 2 * kPairLoads > kLoads ? 2 * kPairLoads : kLoads;

  // Eight lanes take the eight pairs of one piece, so that their stores fill a row of a tile. Lanes
  // without a pair have a row past the last.
  struct PairUnit {
    uint32_t row, piece;
    KVS_DEVICE explicit PairUnit(uint32_t unit)
        : row(unit / (8 * kRowPieces) * 16 + unit % 8 * 2), piece(unit / 8 % kRowPieces) {}
  };

  KVS_DEVICE static uint4 Widen8(uint32_t low, uint32_t high) {
    if constexpr (kIsFp8) {
      return {Read::Widen2(low, 0), Read::Widen2(low, 1), Read::Widen2(high, 0),
              Read::Widen2(high, 1)};
    }
    return {};
  }

  // The piece's 16-bit elements in pairs.
  KVS_DEVICE static void Elements(const uint4& piece, uint32_t (&out)[kPieceDims / 2]) {
    const uint32_t words[4] = {piece.x, piece.y, piece.z, piece.w};
#pragma unroll
    for (uint32_t i = 0; i < kPieceDims / 2; ++i) {
      if constexpr (kIsFp8) {
        out[i] = Read::Widen2(words[i / 2], i % 2);
      } else {
        out[i] = words[i];
      }
    }
  }

  uint4 pieces_[kHeld];
};

// The planes of one KV head of one sequence.
template <KvCacheDType dtype>
struct PlaneSource {
  const PagedAttentionParams& params;

  // Where `position`, a multiple of 16, lies in its block.
  KVS_DEVICE const uint8_t* Rows(uint32_t seq, uint32_t kv_head, uint32_t position,
                                 bool values) const {
    const KvLayout& layout = params.kv.layout;
    const BlockId block = params.block_tables[size_t{seq} * params.max_blocks_per_seq +
                                              (position >> layout.BlockShift())];
    const size_t offset = layout.KOffset(block, kv_head) + (values ? layout.PlaneElements() : 0) +
                          size_t{position & (layout.block_size - 1)} * layout.head_dim;
    return static_cast<const uint8_t*>(params.kv.data) + offset * SizeOf(dtype);
  }
};

// Queries as right operands: a lane has a row of head_dim elements, in registers or, where there
// are too many, as tiles in shared memory.
template <class T, uint32_t kHeadDim, bool kInShared>
class QueryOperands {
 public:
  KVS_DEVICE explicit QueryOperands(uint8_t* tiles) : tiles_(tiles) {}

  // `row` is of `act`; zeros where it does not exist. Only waves with `stores` write to the tiles;
  // what makes them readable is the caller's.
  KVS_DEVICE void Load(const void* row, DType act, bool exists, bool stores) {
    const uint32_t lane = Opaque(WaveLane());  // Addresses are not kept across the caller's loop.
#pragma unroll
    for (uint32_t d = 0; d < kHeadDim / 16; ++d) {
      MatrixOperand operand = LoadOperandFromRow(row, d * 16, exists ? kHeadDim : 0, lane);
      if ((act == DType::kF16) != kIsF16<T>) {
#pragma unroll
        for (uint32_t i = 0; i < kOperandPairs; ++i) {
          operand.pairs[i] = FromOther(operand.pairs[i], act);
        }
      }
      if constexpr (kInShared) {
        StoreOperandToRow(operand, tiles_ + TileRowOffset(d, lane % 16, 0), stores, lane);
      } else {
        dims_[d] = operand;
      }
    }
  }

  KVS_DEVICE MatrixOperand At(uint32_t dims, uint32_t lane) const {
    if constexpr (kInShared) {
      return LoadOperand(tiles_ + TileRowOffset(dims, lane % 16, 0), lane);
    } else {
      return dims_[dims];
    }
  }

 private:
  KVS_DEVICE static uint32_t FromOther(uint32_t pair, DType act) {
    const auto low = static_cast<uint16_t>(pair), high = static_cast<uint16_t>(pair >> 16);
    if (act == DType::kBf16) return Pack2<T>(Bf16ToFloat(low), Bf16ToFloat(high));
    return Pack2<T>(ToFloat(__builtin_bit_cast(F16, low)), ToFloat(__builtin_bit_cast(F16, high)));
  }

  uint8_t* tiles_;
  MatrixOperand dims_[kInShared ? 1 : kHeadDim / 16];
};

}  // namespace kvs::gpu
