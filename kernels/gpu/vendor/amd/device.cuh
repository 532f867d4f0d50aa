// Device code that NVIDIA and AMD spell differently; what each name does stands in
// vendor/nvidia/device.cuh. A hardware wave of 64 lanes is two warps here.
#pragma once

#include <cstdint>
#include <cstring>

#define KVS_DEVICE __device__ __forceinline__
#define KVS_GRID_CONSTANT
#define KVS_DYNAMIC_SHARED(T, name, alignment) KVS_HIP_DYNAMIC_SHARED(T, name, alignment)
#if !defined(KVS_HIP_DYNAMIC_SHARED)  // the emulator of tests/emulator has its own
#define KVS_HIP_DYNAMIC_SHARED(T, name, alignment) \
  extern __shared__ __attribute__((aligned(alignment))) T name[]
#endif

namespace kvs::gpu {

KVS_DEVICE void WaitForPreviousKernel() {}
KVS_DEVICE void AllowNextKernel() {}

template <class T>
KVS_DEVICE T ShuffleXor(T value, uint32_t mask) {
  return __shfl_xor(value, static_cast<int>(mask), static_cast<int>(kWarpSize));
}

template <class T>
KVS_DEVICE T ShuffleUp(T value, uint32_t distance) {
  return __shfl_up(value, distance, static_cast<int>(kWarpSize));
}

template <class T>
KVS_DEVICE T ShuffleFrom(T value, uint32_t lane) {
  return __shfl(value, static_cast<int>(lane), static_cast<int>(kWarpSize));
}

KVS_DEVICE bool AnyInWarp(bool value) {
  const uint64_t lanes = __ballot(value);
  return static_cast<uint32_t>(lanes >> (__lane_id() & ~(kWarpSize - 1))) != 0;
}

// Lanes run in step; only the compiler has to keep the order.
KVS_DEVICE void SyncWarp() { __builtin_amdgcn_fence(__ATOMIC_ACQ_REL, "wavefront"); }

// The same among all lanes of a hardware wave.
KVS_DEVICE void SyncWave() {
  SyncWarp();
  __builtin_amdgcn_wave_barrier();
}

KVS_DEVICE void StorePublished(uint2* at, uint2 value) {
  __hip_atomic_store(reinterpret_cast<uint64_t*>(at), uint64_t{value.y} << 32 | value.x,
                     __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_AGENT);
}
KVS_DEVICE void StorePublished(uint4* at, uint4 value) {
  uint2* halves = reinterpret_cast<uint2*>(at);
  StorePublished(halves, uint2{value.x, value.y});
  StorePublished(halves + 1, uint2{value.z, value.w});
}
KVS_DEVICE uint2 LoadPublished(const uint2* at) {
  const uint64_t value = __hip_atomic_load(reinterpret_cast<const uint64_t*>(at), __ATOMIC_RELAXED,
                                           __HIP_MEMORY_SCOPE_AGENT);
  return uint2{static_cast<uint32_t>(value), static_cast<uint32_t>(value >> 32)};
}
KVS_DEVICE uint4 LoadPublished(const uint4* at) {
  const uint2* halves = reinterpret_cast<const uint2*>(at);
  const uint2 low = LoadPublished(halves), high = LoadPublished(halves + 1);
  return uint4{low.x, low.y, high.x, high.y};
}

KVS_DEVICE uint32_t BytesToUpper(uint32_t bytes, uint32_t half) {
  return __builtin_amdgcn_perm(0, bytes, half == 0 ? 0x010c000c : 0x030c020c);
}

// The compiler moves nothing across it.
KVS_DEVICE void KeepOrder() { __builtin_amdgcn_sched_barrier(0); }

// `value`, of which the compiler knows nothing: what is computed from it inside a loop is not kept
// in registers from outside.
KVS_DEVICE uint32_t Opaque(uint32_t value) {
  asm volatile("" : "+v"(value));
  return value;
}

KVS_DEVICE uint32_t Kept(uint32_t value) { return value; }

// `value`, which is the same in all lanes of a hardware wave.
KVS_DEVICE uint32_t WaveUniform(uint32_t value) { return __builtin_amdgcn_readfirstlane(value); }

KVS_DEVICE float ToFloat(Bf16 value) { return Bf16ToFloat(value.bits); }
KVS_DEVICE float ToFloat(F16 value) {
  return static_cast<float>(__builtin_bit_cast(_Float16, value.bits));
}
KVS_DEVICE Bf16 ToBf16(float value) { return {FloatToBf16(value)}; }
KVS_DEVICE F16 ToF16(float value) {
  return {__builtin_bit_cast(uint16_t, static_cast<_Float16>(value))};
}

}  // namespace kvs::gpu
