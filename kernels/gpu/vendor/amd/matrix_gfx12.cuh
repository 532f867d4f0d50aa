// RDNA4: WMMA of a wave of 32, each half of which has one half of every operand row.
#pragma once

#include "gpu/matrix_layout.cuh"

namespace kvs::gpu {

inline constexpr uint32_t kWave = 32;
inline constexpr uint32_t kOperandPairs = 4;
inline constexpr uint32_t kSumValues = 8;
using MatrixOperand = MatrixOperandOf<kOperandPairs>;
using SumValues = RegistersOf<float, kSumValues>::Type;

KVS_DEVICE constexpr uint32_t FirstElement(uint32_t lane) { return lane / 16 * 8; }
KVS_DEVICE constexpr uint32_t SumRow(uint32_t lane, uint32_t i) { return lane / 16 * 8 + i; }

KVS_DEVICE float WaveShuffleXor(float value, uint32_t mask) { return ShuffleXor(value, mask); }

template <class T>
KVS_DEVICE void Multiply(SumValues& sum, const MatrixOperand& a, const MatrixOperand& b) {
  if constexpr (kIsF16<T>) {
    typedef _Float16 Halves __attribute__((vector_size(16)));
    sum = __builtin_amdgcn_wmma_f32_16x16x16_f16_w32_gfx12(__builtin_bit_cast(Halves, a),
                                                           __builtin_bit_cast(Halves, b), sum);
  } else {
    typedef short Halves __attribute__((vector_size(16)));
    sum = __builtin_amdgcn_wmma_f32_16x16x16_bf16_w32_gfx12(__builtin_bit_cast(Halves, a),
                                                            __builtin_bit_cast(Halves, b), sum);
  }
}

// The operand whose rows are the columns of a sum, rounded to T.
template <class T>
KVS_DEVICE MatrixOperand OperandFromSum(const SumValues& sum) {
  MatrixOperand out;
#pragma unroll
  for (uint32_t i = 0; i < 4; ++i) out.pairs[i] = Pack2<T>(sum[2 * i], sum[2 * i + 1]);
  return out;
}

}  // namespace kvs::gpu
