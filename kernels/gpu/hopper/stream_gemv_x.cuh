// How a consumer of stream_gemv.cuh holds x, after it has waited for the kernel in front: in
// registers where in_features is small and x is taken as it is, each warp its own columns, else in
// shared memory. Piece is what lane (g, t) multiplies in a step of a chunk: bytes 16t..16t+15 of
// row g of x, whose elements are of the weight's size. Rows past the last repeat it.
#pragma once

#include "gpu/hopper/stream_gemv_ring.cuh"
#include "gpu/norm_piece.cuh"
#include "gpu/reduce.cuh"
#include "gpu/vec.cuh"

namespace kvs::gpu::hopper {

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900

// Pieces of eight weights of the norm that a thread reads before it waits.
inline constexpr uint32_t kEarlyPieces = 2;

// The rows of x to shared memory, as they are.
KVS_DEVICE void LoadRows(const StreamGemvParams& params, uint8_t* x, uint32_t stride) {
  constexpr uint32_t kAtOnce = 4;
  const uint32_t pieces = params.row_bytes / 16;
  for (uint32_t row = 0; row < params.num_rows; ++row) {
    const uint8_t* from = static_cast<const uint8_t*>(params.x) + size_t{row} * params.row_bytes;
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

KVS_DEVICE void LoadEarly(const StreamGemvParams& params, NormPiece (&early)[kEarlyPieces]) {
  if (params.norm_weight == nullptr) return;
#pragma unroll
  for (uint32_t i = 0; i < kEarlyPieces; ++i) {
    const uint32_t piece = threadIdx.x + i * kConsumerThreads;
    if (piece < params.in_features / 8) early[i] = NormPiece::Load(params.norm_weight, piece);
  }
}

template <class T>
KVS_DEVICE void PrepareX(const StreamGemvParams& params, StreamShared& shared, uint8_t* x,
                         uint32_t stride) {
  NormPiece early[kEarlyPieces] = {};
  LoadEarly(params, early);
  WaitForPreviousKernel();
  LoadRows(params, x, stride);
  if (params.norm_weight != nullptr) {
    NormalizeRows(params, shared, early, reinterpret_cast<T*>(x),
                  stride / static_cast<uint32_t>(sizeof(T)));
  }
  SyncConsumers();
}

// Of a warp's lane, among rows in shared memory.
KVS_DEVICE const uint8_t* FirstPiece(const StreamGemvParams& params, const uint8_t* x) {
  const uint32_t warp = threadIdx.x / kWarpSize, lane = threadIdx.x % kWarpSize;
  return x + min(lane / 4, params.num_rows - 1) * StreamXStride(params.row_bytes) + warp * kSlice +
         lane % 4 * 16;
}

template <class T>
struct SharedX {
  static constexpr uint32_t kChunks = 0;  // any number
  const uint8_t* pieces;
  const float* scales;  // of x as codes

  // `x` is shared memory of params.num_rows rows of StreamXStride bytes.
  KVS_DEVICE SharedX(const StreamGemvParams& params, StreamShared& shared, uint8_t* x)
      : pieces(FirstPiece(params, x)), scales(params.x_scales) {
    PrepareX<T>(params, shared, x, StreamXStride(params.row_bytes));
  }
  KVS_DEVICE uint4 Piece(uint32_t chunk, uint32_t step) const {
    return *reinterpret_cast<const uint4*>(pieces + chunk * kChunk + step * kStep);
  }
};

// Does not normalize.
template <uint32_t kMaxChunks>
struct RegisterX {
  static constexpr uint32_t kChunks = kMaxChunks;
  uint4 pieces[kChunks][kSliceSteps];
  const float* scales;

  KVS_DEVICE RegisterX(const StreamGemvParams& params, StreamShared&, uint8_t*)
      : scales(params.x_scales) {
    const uint32_t warp = threadIdx.x / kWarpSize, lane = threadIdx.x % kWarpSize;
    const uint32_t row = min(lane / 4, params.num_rows - 1);
    const auto* const from = static_cast<const uint8_t*>(params.x) + size_t{row} * params.row_bytes;
    WaitForPreviousKernel();
#pragma unroll
    for (uint32_t chunk = 0; chunk < kChunks; ++chunk) {
#pragma unroll
      for (uint32_t step = 0; step < kSliceSteps; ++step) {
        const uint32_t k = chunk * kChunk + warp * kSlice + step * kStep + lane % 4 * 16;
        pieces[chunk][step] = uint4{0, 0, 0, 0};
        if (k >= params.row_bytes) continue;
        pieces[chunk][step] = *reinterpret_cast<const uint4*>(from + k);
      }
    }
  }
  KVS_DEVICE uint4 Piece(uint32_t chunk, uint32_t step) const { return pieces[chunk][step]; }
};

#endif

}  // namespace kvs::gpu::hopper
