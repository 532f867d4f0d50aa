// Compute capability 9.0: a few rows of x past a matrix W that is read once, at the speed of device
// memory. Optionally normalizes x first, and adds to what `out` holds or multiplies gate and up.
//
// A CTA has a multiprocessor for itself, and its share of the rows of W, equal to within one. It
// walks over them in tiles of kTileRows rows, and over a tile in stages of kChunk columns. Producer
// warps keep a ring of stages on its way by bulk copies; they begin before the kernel in front has
// ended, as W depends on no kernel, so that memory does not fall idle while x is awaited. A
// consumer warp multiplies its slice of each stage's columns, with W as the left operand of the
// matrix instruction; at a tile's end the consumers' sums are added up in the order of the slices.
// The order of all sums depends on in_features alone.
#pragma once

#include <algorithm>

#include "gpu/hopper/barrier.cuh"
#include "gpu/linear_kernels.h"
#include "gpu/mma.cuh"
#include "gpu/reduce.cuh"
#include "gpu/vec.cuh"

namespace kvs::gpu::hopper {

struct StreamGemvParams {
  const void* x;             // [num_rows, in_features]
  const float* norm_weight;  // [in_features], or null: x is taken as it is
  const void* weight;        // [num_outputs, in_features]; with kSiluMul twice as many rows
  void* out;                 // [num_rows, num_outputs]
  uint32_t num_rows;
  uint32_t in_features;
  uint32_t num_outputs;
  uint32_t num_stages;
  float norm_eps;
  LinearFinish finish;
  bool out_is_f32;
};

inline constexpr uint32_t kConsumerWarps = 16;
inline constexpr uint32_t kConsumerThreads = kConsumerWarps * kWarpSize;
inline constexpr uint32_t kProducerWarps = 4;
inline constexpr uint32_t kStreamThreads = kConsumerThreads + kProducerWarps * kWarpSize;

inline constexpr uint32_t kTileRows = 16;
inline constexpr uint32_t kChunk = 1024;
inline constexpr uint32_t kSlice = kChunk / kConsumerWarps;
// Of a stage's row in shared memory: neighbouring rows begin in different halves of the banks.
inline constexpr uint32_t kRowPitch = kChunk * 2 + 64;
inline constexpr uint32_t kStageBytes = kTileRows * kRowPitch;
inline constexpr uint32_t kMaxStages = 6;

// Elements of a row of x in shared memory: an odd number of steps, for the same reason.
constexpr uint32_t StreamXStride(uint32_t in_features) {
  return (NumSteps(in_features) | 1) * kStepK;
}

struct StreamShared {
  SharedBarrier full[kMaxStages];
  SharedBarrier empty[kMaxStages];
  // Of a tile, [consumer][row][row of x]; two, so that one is read while the next is written.
  alignas(16) float sums[2][kConsumerWarps][kTileRows][kMaxStreamRows];
  float squares[kMaxStreamRows][kConsumerWarps];
};

// A place in the ring.
struct RingPlace {
  uint32_t slot = 0;
  uint32_t parity;

  KVS_DEVICE void Advance(uint32_t num_stages) {
    if (++slot < num_stages) return;
    slot = 0;
    parity ^= 1;
  }
};

// Outputs of a CTA, [first, end), and how many of them a tile holds. With kSiluMul an output has
// two rows of W, and a tile is half gate and half up.
struct OutputRange {
  uint32_t first, end, per_tile;

  KVS_DEVICE explicit OutputRange(const StreamGemvParams& params) {
    const uint64_t count = params.num_outputs;
    first = static_cast<uint32_t>(count * blockIdx.x / gridDim.x);
    end = static_cast<uint32_t>(count * (blockIdx.x + 1) / gridDim.x);
    per_tile = params.finish == LinearFinish::kSiluMul ? kTileRows / 2 : kTileRows;
  }
};

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900

// By the lanes where `active` is not 0; all lanes of a warp call it with the same addresses, which
// keeps them out of the vector registers.
KVS_DEVICE void CopyRow(uint32_t to, const void* from, uint32_t bytes, uint32_t barrier,
                        uint32_t active) {
  asm volatile(
      "{\n"
      ".reg .pred p;\n"
      "setp.ne.u32 p, %4, 0;\n"
      "@p cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];\n"
      "}" ::"r"(to),
      "l"(__cvta_generic_to_global(from)), "r"(bytes), "r"(barrier), "r"(active)
      : "memory");
}

// Shows the copy engine the barriers that this thread has made.
KVS_DEVICE void FenceInit() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }

KVS_DEVICE void ArriveExpecting(uint32_t barrier, uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes)
               : "memory");
}

// Producer warp `producer` copies every kProducerWarps-th row of each stage.
KVS_DEVICE void ProduceStages(const StreamGemvParams& params, StreamShared& shared,
                              const uint8_t* stages, uint32_t producer) {
  const OutputRange range(params);
  const bool pairs = params.finish == LinearFinish::kSiluMul;
  const uint32_t leader = threadIdx.x % kWarpSize == 0;
  const uint32_t row_bytes = params.in_features * 2;
  const uint32_t full = SharedAddress(shared.full), first_stage = SharedAddress(stages);
  RingPlace at{.parity = 1};
  for (uint32_t output = range.first; output < range.end; output += range.per_tile) {
    const uint32_t count = min(range.per_tile, range.end - output);
    const auto* from = static_cast<const uint8_t*>(params.weight) + size_t{output} * row_bytes;
    for (uint32_t done = 0; done < row_bytes; done += kChunk * 2) {
      const uint32_t bytes = min(kChunk * 2, row_bytes - done);
      shared.empty[at.slot].Wait(at.parity);
      const uint32_t barrier = full + at.slot * sizeof(SharedBarrier);
      const uint32_t to = first_stage + at.slot * kStageBytes;
      if (producer == 0 && leader) ArriveExpecting(barrier, bytes * count * (pairs ? 2 : 1));
#pragma unroll
      for (uint32_t i = 0; i < kTileRows / kProducerWarps; ++i) {
        const uint32_t row = i * kProducerWarps + producer;
        const uint32_t in_part = row % range.per_tile;
        const size_t weight_row = in_part + (row < range.per_tile ? 0 : params.num_outputs);
        CopyRow(to + row * kRowPitch, from + weight_row * row_bytes + done, bytes, barrier,
                leader & (in_part < count));
      }
      at.Advance(params.num_stages);
    }
  }
}

KVS_DEVICE void SyncConsumers() { WaitNamedBarrier(1, kConsumerThreads); }

// Pieces of eight weights of the norm that a thread reads before it waits.
inline constexpr uint32_t kEarlyPieces = 2;

struct NormPiece {
  float4 low, high;

  KVS_DEVICE static NormPiece Load(const float* weight, uint32_t piece) {
    const auto* from = reinterpret_cast<const float4*>(weight) + 2 * piece;
    return {from[0], from[1]};
  }
  template <class T>
  KVS_DEVICE Vec8<T> Scale(const Vec8<T>& values, float factor) const {
    const float weights[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
    Vec8<T> out;
#pragma unroll
    for (uint32_t i = 0; i < 8; ++i) {
      out[i] = FromFloat<T>(ToFloat(values[i]) * factor * weights[i]);
    }
    return out;
  }
};

// The rows of x to shared memory, as they are.
template <class T>
KVS_DEVICE void LoadRows(const StreamGemvParams& params, T* x, uint32_t stride) {
  constexpr uint32_t kAtOnce = 4;
  const uint32_t pieces = params.in_features / 8;
  for (uint32_t row = 0; row < params.num_rows; ++row) {
    const T* from = static_cast<const T*>(params.x) + size_t{row} * params.in_features;
    for (uint32_t base = threadIdx.x; base < pieces; base += kAtOnce * kConsumerThreads) {
      uint4 values[kAtOnce];
#pragma unroll
      for (uint32_t i = 0; i < kAtOnce; ++i) {
        const uint32_t piece = base + i * kConsumerThreads;
        if (piece < pieces) values[i] = reinterpret_cast<const uint4*>(from)[piece];
      }
#pragma unroll
      for (uint32_t i = 0; i < kAtOnce; ++i) {
        const uint32_t piece = base + i * kConsumerThreads;
        if (piece < pieces) reinterpret_cast<uint4*>(x + row * stride)[piece] = values[i];
      }
    }
  }
}

// x = x / rms(x) * weight, in shared memory. A thread works on the pieces that it has loaded.
template <class T>
KVS_DEVICE void NormalizeRows(const StreamGemvParams& params, StreamShared& shared,
                              const NormPiece (&early)[kEarlyPieces], T* x, uint32_t stride) {
  const uint32_t warp = threadIdx.x / kWarpSize;
  const uint32_t pieces = params.in_features / 8;
  for (uint32_t row = 0; row < params.num_rows; ++row) {
    float squares = 0;
    for (uint32_t piece = threadIdx.x; piece < pieces; piece += kConsumerThreads) {
      const auto values = Vec8<T>::Load(x + row * stride, piece);
#pragma unroll
      for (uint32_t i = 0; i < 8; ++i) squares += ToFloat(values[i]) * ToFloat(values[i]);
    }
    squares = WarpSum(squares);
    if (threadIdx.x % kWarpSize == 0) shared.squares[row][warp] = squares;
  }
  SyncConsumers();
  for (uint32_t row = 0; row < params.num_rows; ++row) {
    float squares = 0;
#pragma unroll
    for (uint32_t i = 0; i < kConsumerWarps; ++i) squares += shared.squares[row][i];
    const float mean = squares / static_cast<float>(params.in_features);
    const float factor = rsqrtf(mean + params.norm_eps);
    T* const to = x + row * stride;
#pragma unroll
    for (uint32_t i = 0; i < kEarlyPieces; ++i) {
      const uint32_t piece = threadIdx.x + i * kConsumerThreads;
      if (piece < pieces) early[i].Scale(Vec8<T>::Load(to, piece), factor).Store(to, piece);
    }
    for (uint32_t piece = threadIdx.x + kEarlyPieces * kConsumerThreads; piece < pieces;
         piece += kConsumerThreads) {
      const auto weights = NormPiece::Load(params.norm_weight, piece);
      weights.Scale(Vec8<T>::Load(to, piece), factor).Store(to, piece);
    }
  }
}

// The rows of x, normalized where asked for, in shared memory for all consumers.
template <class T>
KVS_DEVICE void PrepareX(const StreamGemvParams& params, StreamShared& shared, T* x,
                         uint32_t stride) {
  NormPiece early[kEarlyPieces] = {};
  if (params.norm_weight != nullptr) {
#pragma unroll
    for (uint32_t i = 0; i < kEarlyPieces; ++i) {
      const uint32_t piece = threadIdx.x + i * kConsumerThreads;
      if (piece < params.in_features / 8) early[i] = NormPiece::Load(params.norm_weight, piece);
    }
  }
  WaitForPreviousKernel();
  LoadRows(params, x, stride);
  if (params.norm_weight != nullptr) NormalizeRows(params, shared, early, x, stride);
  SyncConsumers();
}

// sums += this lane's part of one slice. `weight` is its piece of the slice's first row.
template <class T>
KVS_DEVICE void MultiplySlice(float (&sums)[4], const uint8_t* weight, const T* x, uint32_t k,
                              uint32_t in_features) {
#pragma unroll
  for (uint32_t step = 0; step < kSlice / kStepK; ++step, k += kStepK) {
    if (k >= in_features) return;
    const auto low = *reinterpret_cast<const uint4*>(weight + step * kStepK * 2);
    const auto high = *reinterpret_cast<const uint4*>(weight + 8 * kRowPitch + step * kStepK * 2);
    const auto b = *reinterpret_cast<const uint4*>(x + k);
    const uint32_t first[4] = {low.x, high.x, low.y, high.y};
    const uint32_t second[4] = {low.z, high.z, low.w, high.w};
    Mma16x8x16<T>(sums, first, b.x, b.y);
    Mma16x8x16<T>(sums, second, b.z, b.w);
  }
}

// The outputs of one tile that a thread finishes: one, or none.
template <class T>
struct Finish {
  const StreamGemvParams& params;
  bool active;
  uint32_t in_tile, token;
  size_t index;  // in out
  float old = 0;

  KVS_DEVICE Finish(const StreamGemvParams& p, const OutputRange& range, uint32_t output)
      : params(p) {
    in_tile = threadIdx.x % range.per_tile;
    token = threadIdx.x / range.per_tile;
    active = output + in_tile < range.end && token < params.num_rows;
    index = size_t{token} * params.num_outputs + output + in_tile;
    if (active && params.finish == LinearFinish::kAdd) {
      old = ToFloat(static_cast<const T*>(params.out)[index]);
    }
  }

  KVS_DEVICE static float Sum(const float (&sums)[kConsumerWarps][kTileRows][kMaxStreamRows],
                              uint32_t row, uint32_t token) {
    float sum = 0;
#pragma unroll
    for (uint32_t i = 0; i < kConsumerWarps; ++i) sum += sums[i][row][token];
    return sum;
  }

  // Rounds where the separate operations would.
  KVS_DEVICE void Store(const float (&sums)[kConsumerWarps][kTileRows][kMaxStreamRows]) const {
    if (!active) return;
    float value = Sum(sums, in_tile, token);
    if (params.out_is_f32) {
      static_cast<float*>(params.out)[index] = value;
      return;
    }
    value = ToFloat(FromFloat<T>(value));
    if (params.finish == LinearFinish::kAdd) value += old;
    if (params.finish == LinearFinish::kSiluMul) {
      const float up = ToFloat(FromFloat<T>(Sum(sums, in_tile + kTileRows / 2, token)));
      value = value / (1.0f + __expf(-value)) * up;
    }
    static_cast<T*>(params.out)[index] = FromFloat<T>(value);
  }
};

template <class T>
KVS_DEVICE void ConsumeStages(const StreamGemvParams& params, StreamShared& shared,
                              const uint8_t* stages, const T* x, uint32_t stride) {
  const uint32_t warp = threadIdx.x / kWarpSize, lane = threadIdx.x % kWarpSize;
  const uint32_t g = lane / 4, t = lane % 4;
  const OutputRange range(params);
  x += min(g, params.num_rows - 1) * stride + t * 8;
  const uint8_t* const weight = stages + g * kRowPitch + (warp * kSlice + t * 8) * 2;
  RingPlace at{.parity = 0};
  uint32_t buffer = 0;
  for (uint32_t output = range.first; output < range.end; output += range.per_tile, buffer ^= 1) {
    const Finish<T> finish(params, range, output);
    float sums[4] = {};
    for (uint32_t k = warp * kSlice; k < params.in_features + warp * kSlice; k += kChunk) {
      shared.full[at.slot].Wait(at.parity);
      MultiplySlice(sums, weight + at.slot * kStageBytes, x, k, params.in_features);
      SyncWarp();
      if (lane == 0) shared.empty[at.slot].Arrive();
      at.Advance(params.num_stages);
    }
    auto& tile = shared.sums[buffer];
    *reinterpret_cast<float2*>(&tile[warp][g][t * 2]) = float2{sums[0], sums[1]};
    *reinterpret_cast<float2*>(&tile[warp][g + 8][t * 2]) = float2{sums[2], sums[3]};
    SyncConsumers();
    finish.Store(tile);
  }
}

#endif

template <class T>
__global__ __launch_bounds__(kStreamThreads, 1) void StreamGemvKernel(
    const KVS_GRID_CONSTANT StreamGemvParams params) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  extern __shared__ __align__(128) uint8_t stream_shared[];
  __shared__ StreamShared shared;
  T* const x = reinterpret_cast<T*>(stream_shared + params.num_stages * kStageBytes);
  AllowNextKernel();
  if (threadIdx.x == 0) {
    for (uint32_t i = 0; i < params.num_stages; ++i) {
      shared.full[i].Init(1);
      shared.empty[i].Init(kConsumerWarps);
    }
    FenceInit();
  }
  __syncthreads();
  // The same in all lanes, and known to be.
  const uint32_t warp = __shfl_sync(0xffffffffu, threadIdx.x / kWarpSize, 0);
  if (warp >= kConsumerWarps) {
    ProduceStages(params, shared, stream_shared, warp - kConsumerWarps);
    WaitForPreviousKernel();
  } else {
    const uint32_t stride = StreamXStride(params.in_features);
    PrepareX(params, shared, x, stride);
    ConsumeStages(params, shared, stream_shared, x, stride);
  }
#else
  __trap();  // Chosen for compute capability 9.0 alone.
#endif
}

}  // namespace kvs::gpu::hopper
