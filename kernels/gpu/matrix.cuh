// 16x16x16 products of one wave, as AMD's matrix instructions divide them among lanes: 16-bit
// operands, float32 sums. All lanes of a wave call these functions together.
//
//   sum[i][j] += the sum over k of a[i][k] * b[j][k]        both operands lie as rows of 16
//   elements
//
// A lane holds elements of row lane % 16 of each operand and of column lane % 16 of a sum:
//
//                    wave   elements of an operand row      rows of a sum's column
//   gfx11 (WMMA)      32    all 16                          2 * i + lane / 16,    i < 8
//   gfx12 (WMMA)      32    8 from 8 * (lane / 16) on       8 * (lane / 16) + i,  i < 8
//   gfx90a, gfx94x    64    4 from 4 * (lane / 16) on       4 * (lane / 16) + i,  i < 4
//   others            32    as gfx11, by shuffles (matrix_software.cuh)
//
// NVIDIA's compiler does not take this file; its fragments are those of mma.cuh.
//
// Sources: "AMD matrix cores" and "How to accelerate AI applications on RDNA 3 using WMMA"
// (GPUOpen), the RDNA4 and CDNA3 instruction set manuals. tests/emulator has a model of the first
// and the third.
#pragma once

#include "gpu/gpu.h"
#include KVS_VENDOR_HEADER(matrix.cuh)

namespace kvs::gpu {

// The lane's place in its wave.
KVS_DEVICE uint32_t WaveLane() { return threadIdx.x % kWave; }
// The wave's place in its block: the same in all lanes, which the compiler is told.
KVS_DEVICE uint32_t WaveIndex() { return WaveUniform(threadIdx.x / kWave); }
// This lane's row of operands, and column of sums.
KVS_DEVICE uint32_t MatrixRow() { return threadIdx.x % 16; }

struct MatrixSum {
  SumValues values = {};
};

// Over the column that this lane shares with others, in all of them.
template <class Op>
KVS_DEVICE float ReduceColumn(float value, const Op& op) {
#pragma unroll
  for (uint32_t mask = 16; mask < kWave; mask *= 2) value = op(value, WaveShuffleXor(value, mask));
  return value;
}

// A 16x16 tile in shared memory: rows of 32 bytes, the row's place exchanged within groups of four
// by `flip`, so that lanes that write one row of neighbouring tiles meet different banks.
inline constexpr uint32_t kTileBytes = 512;

KVS_DEVICE constexpr uint32_t TileRowOffset(uint32_t tile, uint32_t row, uint32_t flip) {
  return tile * kTileBytes + row / 4 * 128 + (row ^ flip) % 4 * 32;
}

KVS_DEVICE MatrixOperand LoadOperand(const uint8_t* row, uint32_t lane) {
  MatrixOperand out;
  const uint8_t* from = row + FirstElement(lane) * 2;
#pragma unroll
  for (uint32_t i = 0; i < kOperandPairs; i += 2) {
    const uint2 pairs = *reinterpret_cast<const uint2*>(from + i * 4);
    out.pairs[i] = pairs.x;
    out.pairs[i + 1] = pairs.y;
  }
  return out;
}

// This lane's elements of a row that ends at `end`, from element k on; zeros past the end. k and
// end are multiples of 8, `row` is 16-byte aligned.
KVS_DEVICE MatrixOperand LoadOperandFromRow(const void* row, uint32_t k, uint32_t end,
                                            uint32_t lane) {
  constexpr uint32_t kPieces = kOperandPairs < 4 ? 1 : kOperandPairs / 4;  // of up to 8 elements
  MatrixOperand out;
  const uint32_t first = k + FirstElement(lane);
#pragma unroll
  for (uint32_t piece = 0; piece < kPieces; ++piece) {
    const uint32_t at = first + piece * 8;
    const auto* from = reinterpret_cast<const uint32_t*>(static_cast<const uint16_t*>(row) + at);
#pragma unroll
    for (uint32_t i = 0; i < kOperandPairs / kPieces; i += 2) {
      const uint2 pairs = at < end ? *reinterpret_cast<const uint2*>(from + i) : uint2{0, 0};
      out.pairs[piece * 4 + i] = pairs.x;
      out.pairs[piece * 4 + i + 1] = pairs.y;
    }
  }
  return out;
}

// Writes the 16 elements of each lane's row to `row`, 16-byte aligned, where `exists`.
template <uint32_t kPairs>
KVS_DEVICE void StoreOperandToRow(const MatrixOperandOf<kPairs>& operand, void* row, bool exists,
                                  uint32_t lane) {
  if (!exists) return;
  if constexpr (kPairs == 8) {  // two lanes have the same; each writes a half
    const bool upper = lane >= 16;
    uint4 half;
    half.x = upper ? operand.pairs[4] : operand.pairs[0];
    half.y = upper ? operand.pairs[5] : operand.pairs[1];
    half.z = upper ? operand.pairs[6] : operand.pairs[2];
    half.w = upper ? operand.pairs[7] : operand.pairs[3];
    static_cast<uint4*>(row)[upper ? 1 : 0] = half;
  } else {
    auto* to = reinterpret_cast<uint32_t*>(static_cast<uint16_t*>(row) + FirstElement(lane));
#pragma unroll
    for (uint32_t i = 0; i < kPairs; i += 2) {
      *reinterpret_cast<uint2*>(to + i) = uint2{operand.pairs[i], operand.pairs[i + 1]};
    }
  }
}

}  // namespace kvs::gpu
