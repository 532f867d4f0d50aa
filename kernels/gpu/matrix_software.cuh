// gfx11's layout of matrix.cuh where there is no such instruction: operands come by shuffles.
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
KVS_DEVICE float ElementOf(uint32_t pair, uint32_t upper) {
  const auto bits = static_cast<uint16_t>(pair >> (16 * upper));
  return kIsF16<T> ? F16ToFloat(bits) : Bf16ToFloat(bits);
}

template <class T>
KVS_DEVICE void Multiply(SumValues& sum, const MatrixOperand& a, const MatrixOperand& b) {
  const uint32_t half = threadIdx.x % kWave / 16;
#pragma unroll
  for (uint32_t i = 0; i < 8; ++i) {
#pragma unroll
    for (uint32_t j = 0; j < 8; ++j) {
      const uint32_t pair = ShuffleFrom(a.pairs[j], 2 * i + half);
      sum[i] += ElementOf<T>(pair, 0) * ElementOf<T>(b.pairs[j], 0);
      sum[i] += ElementOf<T>(pair, 1) * ElementOf<T>(b.pairs[j], 1);
    }
  }
}

// The operand whose rows are the columns of a sum, rounded to T.
template <class T>
KVS_DEVICE MatrixOperand OperandFromSum(const SumValues& sum) {
  const auto exchange = [](uint32_t value) { return ShuffleXor(value, 16); };
  return InterleaveHalves<T>(sum, threadIdx.x & 16, exchange);
}

}  // namespace kvs::gpu
