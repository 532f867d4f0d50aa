// What gfx11's WMMA and gfx90a's MFMA compute, from their manuals and written apart from the
// kernels: which element of A, B and D each lane and register holds. A is 16 x 16 (row, k), B 16 x
// 16 (k, column), D = A * B + C.
//
//   v_wmma_f32_16x16x16 (wave of 32): element k of lane l is A[l % 16][k] and B[k][l % 16]; lanes
//   16
//     to 31 must hold the same as lanes 0 to 15. Register i of lane l is D[2i + l / 16][l % 16].
//   v_mfma_f32_16x16x16 (wave of 64): element i of lane l is A[l % 16][4 (l / 16) + i], B the same
//     with columns. Register i of lane l is D[4 (l / 16) + i][l % 16].
//
// Sums are float64 here, rounded once: the hardware's order of summation is not documented.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "emulator/fibers.h"
#include "kvserve/float_bits.h"

namespace kvs::emulator {

inline float WidenBf16(uint16_t bits) { return Bf16ToFloat(bits); }
inline float WidenF16(uint16_t bits) { return F16ToFloat(bits); }

// The operands of all lanes; valid until CloseOperands.
struct LaneOperands {
  const uint16_t* a;
  const uint16_t* b;
};
template <uint32_t kWave>
void ShareOperands(const LaneOperands& mine, const LaneOperands* (&all)[kWave]) {
  const uint64_t* addresses = Exchange(reinterpret_cast<uintptr_t>(&mine), kWave);
  for (uint32_t i = 0; i < kWave; ++i) {
    all[i] = reinterpret_cast<const LaneOperands*>(addresses[i]);
    if (all[i] == nullptr) {
      std::fprintf(stderr, "emulator: a matrix instruction needs all lanes of the wave\n");
      std::abort();
    }
  }
}
template <uint32_t kWave>
void CloseOperands() {
  Exchange(0, kWave);
}

template <class Halves, class Sum, class Widen>
Sum Wmma(const Halves& a, const Halves& b, Sum c, const Widen& widen) {
  uint16_t a_bits[16], b_bits[16];
  std::memcpy(a_bits, &a, sizeof a_bits);
  std::memcpy(b_bits, &b, sizeof b_bits);
  const LaneOperands mine{a_bits, b_bits};
  const LaneOperands* lanes[32];
  ShareOperands(mine, lanes);
  const uint32_t lane = threadIdx.x % 32;
  const uint32_t twin = lane ^ 16;
  if (std::memcmp(a_bits, lanes[twin]->a, 32) != 0 ||
      std::memcmp(b_bits, lanes[twin]->b, 32) != 0) {
    std::fprintf(stderr, "emulator: the halves of a wave hold different operands of v_wmma\n");
    std::abort();
  }
  for (uint32_t i = 0; i < 8; ++i) {
    double sum = c[i];
    const uint16_t* row = lanes[2 * i + lane / 16]->a;
    for (uint32_t k = 0; k < 16; ++k) sum += double{widen(row[k])} * double{widen(b_bits[k])};
    c[i] = static_cast<float>(sum);
  }
  CloseOperands<32>();
  return c;
}

template <class Halves, class Sum, class Widen>
Sum Mfma(const Halves& a, const Halves& b, Sum c, const Widen& widen) {
  uint16_t a_bits[4], b_bits[4];
  std::memcpy(a_bits, &a, sizeof a_bits);
  std::memcpy(b_bits, &b, sizeof b_bits);
  const LaneOperands mine{a_bits, b_bits};
  const LaneOperands* lanes[64];
  ShareOperands(mine, lanes);
  const uint32_t lane = threadIdx.x % 64;
  for (uint32_t i = 0; i < 4; ++i) {
    const uint32_t row = 4 * (lane / 16) + i, column = lane % 16;
    double sum = c[i];
    for (uint32_t k = 0; k < 16; ++k) {
      sum += double{widen(lanes[k / 4 * 16 + row]->a[k % 4])} *
             double{widen(lanes[k / 4 * 16 + column]->b[k % 4])};
    }
    c[i] = static_cast<float>(sum);
  }
  CloseOperands<64>();
  return c;
}

}  // namespace kvs::emulator

template <class Halves, class Sum>
Sum __builtin_amdgcn_wmma_f32_16x16x16_f16_w32(const Halves& a, const Halves& b, const Sum& c) {
  return kvs::emulator::Wmma(a, b, c, kvs::emulator::WidenF16);
}
template <class Halves, class Sum>
Sum __builtin_amdgcn_wmma_f32_16x16x16_bf16_w32(const Halves& a, const Halves& b, const Sum& c) {
  return kvs::emulator::Wmma(a, b, c, kvs::emulator::WidenBf16);
}
template <class Halves, class Sum>
Sum __builtin_amdgcn_mfma_f32_16x16x16f16(const Halves& a, const Halves& b, const Sum& c, int, int,
                                          int) {
  return kvs::emulator::Mfma(a, b, c, kvs::emulator::WidenF16);
}
template <class Halves, class Sum>
Sum __builtin_amdgcn_mfma_f32_16x16x16bf16_1k(const Halves& a, const Halves& b, const Sum& c, int,
                                              int, int) {
  return kvs::emulator::Mfma(a, b, c, kvs::emulator::WidenBf16);
}
