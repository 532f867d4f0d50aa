// Device functions of HIP, and of clang for AMD, on the CPU. Included by hip/hip_runtime.h.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "emulator/fibers.h"

using std::isfinite;
using std::isinf;
using std::isnan;
using std::max;
using std::min;

// --- The block ---

inline void __syncthreads() { kvs::emulator::WaitForBlock(); }
inline int __syncthreads_or(int value) { return kvs::emulator::CountInBlock(value != 0) > 0; }
inline void __threadfence() {}

template <class T, class Value>
T atomicAdd(T* at, Value value) {
  const T before = *at;
  *at = before + static_cast<T>(value);
  return before;
}
template <class T, class Value>
T atomicMax(T* at, Value value) {
  const T before = *at;
  *at = std::max(before, static_cast<T>(value));
  return before;
}

// Blocks run one after the other.
#define __HIP_MEMORY_SCOPE_AGENT 0
template <class T>
void __hip_atomic_store(T* at, T value, int, int) {
  *at = value;
}
template <class T>
T __hip_atomic_load(const T* at, int, int) {
  return *at;
}

// --- The wave ---

inline uint32_t __lane_id() { return threadIdx.x % kEmulatedWave; }

namespace kvs::emulator {
// What lane `lane` (of the `width` that this thread belongs to) brought.
template <class T>
T ValueOf(T value, uint32_t lane, int width) {
  static_assert(sizeof(T) <= sizeof(uint64_t));
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  bits = Exchange(bits, static_cast<uint32_t>(width))[lane];
  std::memcpy(&value, &bits, sizeof value);
  return value;
}
}  // namespace kvs::emulator

template <class T>
T __shfl(T value, int lane, int width) {
  return kvs::emulator::ValueOf(value, static_cast<uint32_t>(lane % width), width);
}
template <class T>
T __shfl_xor(T value, int mask, int width) {
  const uint32_t lane = threadIdx.x % static_cast<uint32_t>(width);
  return kvs::emulator::ValueOf(value, lane ^ static_cast<uint32_t>(mask), width);
}
template <class T>
T __shfl_up(T value, uint32_t distance, int width) {
  const uint32_t lane = threadIdx.x % static_cast<uint32_t>(width);
  return kvs::emulator::ValueOf(value, lane < distance ? lane : lane - distance, width);
}
// Of this thread's 32 lanes alone, in their place in the wave: lanes of the other half may be
// elsewhere.
inline uint64_t __ballot(bool value) {
  const uint64_t* values = kvs::emulator::Exchange(value ? 1 : 0, 32);
  uint64_t lanes = 0;
  for (uint32_t i = 0; i < 32; ++i) lanes |= values[i] << i;
  return lanes << (__lane_id() / 32 * 32);
}

// Lanes are not in step here: those of a warp wait for each other where the compiler is told to
// keep the order, and those of a wave where it is told to keep the wave together.
inline void __builtin_amdgcn_fence(int, const char*) { kvs::emulator::Exchange(0, 32); }
inline void __builtin_amdgcn_wave_barrier() { kvs::emulator::Exchange(0, kEmulatedWave); }
inline void __builtin_amdgcn_sched_barrier(int) {}
inline uint32_t __builtin_amdgcn_readfirstlane(uint32_t value) { return value; }

// --- Arithmetic ---

inline float __builtin_amdgcn_exp2f(float value) {
  const float result = std::exp2(value);
  return std::fpclassify(result) == FP_SUBNORMAL ? 0.0f : result;
}
inline uint32_t __float_as_uint(float value) { return std::bit_cast<uint32_t>(value); }
inline float __uint_as_float(uint32_t bits) { return std::bit_cast<float>(bits); }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline float __expf(float value) { return std::exp(value); }
inline float rsqrtf(float value) { return 1.0f / std::sqrt(value); }
inline unsigned long long __float2ull_rn(float value) {
  return static_cast<unsigned long long>(std::nearbyint(value));
}
// Byte i of the result is byte (selector >> 4 * i) & 7 of b:a.
inline uint32_t __byte_perm(uint32_t a, uint32_t b, uint32_t selector) {
  const uint64_t bytes = static_cast<uint64_t>(b) << 32 | a;
  uint32_t out = 0;
  for (int i = 0; i < 4; ++i) {
    out |= static_cast<uint32_t>(bytes >> (8 * (selector >> 4 * i & 7)) & 0xff) << 8 * i;
  }
  return out;
}
// Byte i of the result is byte n of a:b, n being byte i of the selector; 12 stands for zero.
inline uint32_t __builtin_amdgcn_perm(uint32_t a, uint32_t b, uint32_t selector) {
  const uint64_t bytes = static_cast<uint64_t>(a) << 32 | b;
  uint32_t out = 0;
  for (int i = 0; i < 4; ++i) {
    const uint32_t n = selector >> 8 * i & 0xff;
    if (n < 8) out |= static_cast<uint32_t>(bytes >> (8 * n) & 0xff) << 8 * i;
  }
  return out;
}

#include "emulator/matrix_model.h"
