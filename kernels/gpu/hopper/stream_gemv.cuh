// Compute capability 9.0: a few rows of x past a matrix W that is read once, at the speed of device
// memory. Optionally normalizes x first, and adds to what `out` holds or multiplies gate and up.
//
// A CTA has a multiprocessor for itself, and its share of the rows of W, equal to within one. It
// walks over them in tiles of kTileRows rows, and over a tile in stages of kChunk columns. Producer
// warps keep a ring of stages on its way by bulk copies; they begin before the kernel in front has
// ended, as W depends on no kernel, so that memory does not fall idle while x is awaited. A
// consumer warp multiplies its slice of each stage's columns, with W as the left operand of the
// matrix instruction; at a tile's end the consumers' sums are added up in the order of the slices.
// The order of all sums depends on in_features alone, and is that of linear_kernels.h.
//
// W may be FP8: then x is codes too, given so or made on the way (stream_gemv_quantize.cuh); their
// products are exact, their sums float32, and a sum is multiplied by the scales of both rows.
#pragma once

#include <type_traits>

#include "gpu/hopper/stream_gemv_quantize.cuh"
#include "gpu/hopper/stream_gemv_ring.cuh"
#include "gpu/hopper/stream_gemv_x.cuh"
#include "gpu/mma.cuh"

namespace kvs::gpu::hopper {

enum class XKind : uint8_t { kShared, kRegisters, kManyRegisters, kQuantized };

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900

// c += a * b of 32 codes of E4M3: a as of 16 elements, each of them two codes.
KVS_DEVICE void Mma16x8x32(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
      "{%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// sums += one step: 16 rows of W, of which `weight` is the lane's first piece, by 8 rows of x.
template <class W>
KVS_DEVICE void MultiplyStep(float (&sums)[4], const uint8_t* weight, const uint4& x) {
  const auto low = *reinterpret_cast<const uint4*>(weight);
  const auto high = *reinterpret_cast<const uint4*>(weight + 8 * kRowPitch);
  const uint32_t first[4] = {low.x, high.x, low.y, high.y};
  const uint32_t second[4] = {low.z, high.z, low.w, high.w};
  if constexpr (std::is_same_v<W, E4M3>) {
    Mma16x8x32(sums, first, x.x, x.y);
    Mma16x8x32(sums, second, x.z, x.w);
  } else {
    Mma16x8x16<W>(sums, first, x.x, x.y);
    Mma16x8x16<W>(sums, second, x.z, x.w);
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
  float scale = 1, up_scale = 1;  // of the sums

  // `x_scales` are those of x as codes; null where it is none.
  KVS_DEVICE Finish(const StreamGemvParams& p, const OutputRange& range, uint32_t output,
                    const float* x_scales)
      : params(p) {
    in_tile = threadIdx.x % range.per_tile;
    token = threadIdx.x / range.per_tile;
    active = output + in_tile < range.end && token < params.num_rows;
    index = size_t{token} * params.num_outputs + output + in_tile;
    if (active && params.finish == LinearFinish::kAdd) {
      old = ToFloat(static_cast<const T*>(params.out)[index]);
    }
    if (!active || x_scales == nullptr) return;
    const float* const row_scale = params.row_scales + output + in_tile;
    scale = x_scales[token] * *row_scale;
    if (params.finish == LinearFinish::kSiluMul) {
      up_scale = x_scales[token] * row_scale[params.num_outputs];
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
    float value = Sum(sums, in_tile, token) * scale;
    if (params.out_is_f32) {
      static_cast<float*>(params.out)[index] = value;
      return;
    }
    value = ToFloat(FromFloat<T>(value));
    if (params.finish == LinearFinish::kAdd) value += old;
    if (params.finish == LinearFinish::kSiluMul) {
      const float up = ToFloat(FromFloat<T>(Sum(sums, in_tile + kTileRows / 2, token) * up_scale));
      value = value / (1.0f + __expf(-value)) * up;
    }
    static_cast<T*>(params.out)[index] = FromFloat<T>(value);
  }
};

template <class T, class W, class X>
struct Consumer {
  const StreamGemvParams& params;
  StreamShared& shared;
  const X& x;
  const uint8_t* weight;  // the lane's first piece of the first stage
  uint32_t warp, lane;
  RingPlace at{.parity = 0};

  KVS_DEVICE Consumer(const StreamGemvParams& p, StreamShared& s, const uint8_t* stages,
                      const X& held)
      : params(p),
        shared(s),
        x(held),
        warp(threadIdx.x / kWarpSize),
        lane(threadIdx.x % kWarpSize) {
    weight = stages + lane / 4 * kRowPitch + warp * kSlice + lane % 4 * 16;
  }

  // sums += the warp's slice of a chunk.
  KVS_DEVICE void ReceiveChunk(float (&sums)[4], uint32_t chunk) {
    shared.full[at.slot].Wait(at.parity);
    const uint8_t* const stage = weight + at.slot * kStageBytes;
    const uint32_t k = chunk * kChunk + warp * kSlice;
#pragma unroll
    for (uint32_t step = 0; step < kSliceSteps; ++step) {
      if (k + step * kStep >= params.row_bytes) break;
      MultiplyStep<W>(sums, stage + step * kStep, x.Piece(chunk, step));
    }
    SyncWarp();
    if (lane == 0) shared.empty[at.slot].Arrive();
    at.Advance(params.num_stages);
  }

  KVS_DEVICE void ReceiveTile(float (&sums)[4]) {
    if constexpr (X::kChunks > 0) {
#pragma unroll
      for (uint32_t chunk = 0; chunk < X::kChunks; ++chunk) {
        if (chunk * kChunk >= params.row_bytes) break;
        ReceiveChunk(sums, chunk);
      }
    } else {
      for (uint32_t chunk = 0; chunk * kChunk < params.row_bytes; ++chunk) {
        ReceiveChunk(sums, chunk);
      }
    }
  }

  KVS_DEVICE void Receive() {
    const OutputRange range(params);
    const uint32_t g = lane / 4, t = lane % 4;
    uint32_t buffer = 0;
    for (uint32_t output = range.first; output < range.end; output += range.per_tile, buffer ^= 1) {
      const Finish<T> finish(params, range, output, std::is_same_v<W, E4M3> ? x.scales : nullptr);
      float sums[4] = {};
      ReceiveTile(sums);
      auto& tile = shared.sums[buffer];
      *reinterpret_cast<float2*>(&tile[warp][g][t * 2]) = float2{sums[0], sums[1]};
      *reinterpret_cast<float2*>(&tile[warp][g + 8][t * 2]) = float2{sums[2], sums[3]};
      SyncConsumers();
      finish.Store(tile);
    }
  }
};

template <class T, XKind kind>
struct XOf {
  using Type = SharedX<T>;
};
template <class T>
struct XOf<T, XKind::kRegisters> {
  using Type = RegisterX<kRegisterChunks>;
};
template <class T>
struct XOf<T, XKind::kManyRegisters> {
  using Type = RegisterX<kManyRegisterChunks>;
};
template <class T>
struct XOf<T, XKind::kQuantized> {
  using Type = QuantizedX<T>;
};

#endif

// Activations are of T, the weight of W, and X is how x is held.
template <class T, class W, XKind kind>
__global__ __launch_bounds__(kStreamThreads, 1) void StreamGemvKernel(
    const KVS_GRID_CONSTANT StreamGemvParams params) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  extern __shared__ __align__(128) uint8_t stream_shared[];
  __shared__ StreamShared shared;
  AllowNextKernel();
  if (threadIdx.x == 0) {
    shared.x_asked.Init(1);
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
    const typename XOf<T, kind>::Type x(params, shared,
                                        stream_shared + params.num_stages * kStageBytes);
    if (threadIdx.x == 0) shared.x_asked.Arrive();
    Consumer<T, W, typename XOf<T, kind>::Type>(params, shared, stream_shared, x).Receive();
  }
#else
  __trap();  // Chosen for compute capability 9.0 alone.
#endif
}

}  // namespace kvs::gpu::hopper
