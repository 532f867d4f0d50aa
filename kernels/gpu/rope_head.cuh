// The work of RopeKvStore on one head of one token: bias, norm, rotation and scale, by kHeadDim /
// 16 neighbouring lanes of a warp.
#pragma once

#include "gpu/gpu.h"
#include "gpu/reduce.cuh"
#include "gpu/vec.cuh"

namespace kvs::gpu {

// What one thread holds of a head: elements [8 * lane, 8 * lane + 8) of its lower half and those
// that they are rotated with, of its upper half.
struct HeadPart {
  float low[8];
  float high[8];
};

KVS_DEVICE void LoadEight(const float* from, float (&to)[8]) {
  const auto first = reinterpret_cast<const float4*>(from)[0];
  const auto second = reinterpret_cast<const float4*>(from)[1];
  to[0] = first.x, to[1] = first.y, to[2] = first.z, to[3] = first.w;
  to[4] = second.x, to[5] = second.y, to[6] = second.z, to[7] = second.w;
}

template <uint32_t kHeadDim>
KVS_DEVICE HeadPart LoadPart(const float* head, uint32_t lane) {
  HeadPart part;
  LoadEight(head + 8 * lane, part.low);
  LoadEight(head + kHeadDim / 2 + 8 * lane, part.high);
  return part;
}

template <class T>
KVS_DEVICE HeadPart ToFloats(const Vec8<T>& low, const Vec8<T>& high) {
  HeadPart part;
#pragma unroll
  for (uint32_t i = 0; i < 8; ++i) {
    part.low[i] = ToFloat(low[i]);
    part.high[i] = ToFloat(high[i]);
  }
  return part;
}

template <class T, uint32_t kHeadDim>
KVS_DEVICE HeadPart LoadPart(const T* head, uint32_t lane) {
  return ToFloats(Vec8<T>::Load(head, lane), Vec8<T>::Load(head, kHeadDim / 16 + lane));
}

template <class T, uint32_t kHeadDim>
KVS_DEVICE void StorePart(const HeadPart& part, T* head, uint32_t lane) {
  Vec8<T> low, high;
#pragma unroll
  for (uint32_t i = 0; i < 8; ++i) {
    low[i] = FromFloat<T>(part.low[i]);
    high[i] = FromFloat<T>(part.high[i]);
  }
  low.Store(head, lane);
  high.Store(head, kHeadDim / 16 + lane);
}

KVS_DEVICE void Add(const HeadPart& other, HeadPart& part) {
#pragma unroll
  for (uint32_t i = 0; i < 8; ++i) {
    part.low[i] += other.low[i];
    part.high[i] += other.high[i];
  }
}

// 1 / rms of the head, whose parts kHeadDim / 16 neighbouring lanes hold.
template <uint32_t kHeadDim>
KVS_DEVICE float InverseRms(const HeadPart& part, float eps) {
  float sum = 0;
#pragma unroll
  for (uint32_t i = 0; i < 8; ++i) sum += part.low[i] * part.low[i] + part.high[i] * part.high[i];
#pragma unroll
  for (uint32_t mask = kHeadDim / 32; mask > 0; mask /= 2) sum += ShuffleXor(sum, mask);
  return rsqrtf(sum / kHeadDim + eps);
}

KVS_DEVICE void Scale(float factor, const HeadPart& weight, HeadPart& part) {
#pragma unroll
  for (uint32_t i = 0; i < 8; ++i) {
    part.low[i] *= factor * weight.low[i];
    part.high[i] *= factor * weight.high[i];
  }
}

// Without fused multiply-add: the bits of the CPU.
KVS_DEVICE void Rotate(HeadPart& part, const HeadPart& cos_sin) {
#pragma unroll
  for (uint32_t i = 0; i < 8; ++i) {
    const float a = part.low[i];
    const float b = part.high[i];
    const float cosine = cos_sin.low[i];
    const float sine = cos_sin.high[i];
    part.low[i] = __fsub_rn(__fmul_rn(a, cosine), __fmul_rn(b, sine));
    part.high[i] = __fadd_rn(__fmul_rn(b, cosine), __fmul_rn(a, sine));
  }
}

KVS_DEVICE void DivideBy(float scale, HeadPart& part) {
  if (scale == 1.0f) return;
#pragma unroll
  for (uint32_t i = 0; i < 8; ++i) {
    part.low[i] = __fdiv_rn(part.low[i], scale);
    part.high[i] = __fdiv_rn(part.high[i], scale);
  }
}

}  // namespace kvs::gpu
