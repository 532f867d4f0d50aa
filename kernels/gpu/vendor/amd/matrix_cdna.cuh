// CDNA2 and CDNA3: MFMA of a wave of 64. It computes in all lanes, those that a branch has left
// too, so that a wave must take every branch around it whole.
#pragma once

#include "gpu/matrix_layout.cuh"

namespace kvs::gpu {

inline constexpr uint32_t kWave = 64;
inline constexpr uint32_t kOperandPairs = 2;
inline constexpr uint32_t kSumValues = 4;
using MatrixOperand = MatrixOperandOf<kOperandPairs>;
using SumValues = RegistersOf<float, kSumValues>::Type;

KVS_DEVICE constexpr uint32_t FirstElement(uint32_t lane) { return lane / 16 * 4; }
KVS_DEVICE constexpr uint32_t SumRow(uint32_t lane, uint32_t i) { return lane / 16 * 4 + i; }

KVS_DEVICE float WaveShuffleXor(float value, uint32_t mask) {
  return __shfl_xor(value, static_cast<int>(mask), static_cast<int>(kWave));
}

template <class T>
KVS_DEVICE void Multiply(SumValues& sum, const MatrixOperand& a, const MatrixOperand& b) {
  if constexpr (kIsF16<T>) {
    typedef _Float16 Halves __attribute__((vector_size(8)));
    sum = __builtin_amdgcn_mfma_f32_16x16x16f16(__builtin_bit_cast(Halves, a),
                                                __builtin_bit_cast(Halves, b), sum, 0, 0, 0);
  } else {
    typedef short Halves __attribute__((vector_size(8)));
    sum = __builtin_amdgcn_mfma_f32_16x16x16bf16_1k(__builtin_bit_cast(Halves, a),
                                                    __builtin_bit_cast(Halves, b), sum, 0, 0, 0);
  }
}

// The operand whose rows are the columns of a sum, rounded to T.
template <class T>
KVS_DEVICE MatrixOperand OperandFromSum(const SumValues& sum) {
  MatrixOperand out;
  out.pairs[0] = Pack2<T>(sum[0], sum[1]);
  out.pairs[1] = Pack2<T>(sum[2], sum[3]);
  return out;
}

}  // namespace kvs::gpu
