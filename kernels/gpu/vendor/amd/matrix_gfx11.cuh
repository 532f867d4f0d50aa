// RDNA3: WMMA of a wave of 32. Each half of the wave has all of both operands.
#pragma once

#include "gpu/matrix_layout.cuh"

namespace kvs::gpu {

inline constexpr uint32_t kWave = 32;
inline constexpr uint32_t kOperandPairs = 8;
inline constexpr uint32_t kSumValues = 8;
using MatrixOperand = MatrixOperandOf<kOperandPairs>;
using SumValues = RegistersOf<float, kSumValues>::Type;

KVS_DEVICE constexpr uint32_t FirstElement(uint32_t) { return 0; }
KVS_DEVICE constexpr uint32_t SumRow(uint32_t lane, uint32_t i) { return 2 * i + lane / 16; }

KVS_DEVICE float WaveShuffleXor(float value, uint32_t mask) { return ShuffleXor(value, mask); }

template <class T>
KVS_DEVICE void Multiply(SumValues& sum, const MatrixOperand& a, const MatrixOperand& b) {
  if constexpr (kIsF16<T>) {
    typedef _Float16 Halves __attribute__((vector_size(32)));
    sum = __builtin_amdgcn_wmma_f32_16x16x16_f16_w32(__builtin_bit_cast(Halves, a),
                                                     __builtin_bit_cast(Halves, b), sum);
  } else {
    typedef short Halves __attribute__((vector_size(32)));
    sum = __builtin_amdgcn_wmma_f32_16x16x16_bf16_w32(__builtin_bit_cast(Halves, a),
                                                      __builtin_bit_cast(Halves, b), sum);
  }
}

// The operand whose rows are the columns of a sum, rounded to T.
template <class T>
KVS_DEVICE MatrixOperand OperandFromSum(const SumValues& sum) {
  const auto exchange = [](uint32_t value) { return ShuffleXor(value, 16); };
  return InterleaveHalves<T>(sum, threadIdx.x & 16, exchange);
}

}  // namespace kvs::gpu
