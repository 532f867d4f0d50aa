// x of stream_gemv.cuh for an FP8 weight, quantized on the way, after it was normalized where that
// is asked for: in every CTA, from registers to codes in shared memory.
#pragma once

#include "gpu/hopper/stream_gemv_x.cuh"
#include "gpu/quantize_rows.cuh"

namespace kvs::gpu::hopper {

// Pieces of eight elements of a row that a thread holds: in_features is at most 16384.
inline constexpr uint32_t kHeldPieces = 4;
inline constexpr uint32_t kMaxQuantizedFeatures = kHeldPieces * kConsumerThreads * 8;

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900

// The sum, or with `kLargest` the largest, of the consumers' values, in all of them.
template <bool kLargest>
KVS_DEVICE float AllConsumers(float value, float (&of_warps)[kConsumerWarps]) {
  const auto op = [](float a, float b) { return kLargest ? fmaxf(a, b) : a + b; };
  value = WarpReduce(value, op);
  if (threadIdx.x % kWarpSize == 0) of_warps[threadIdx.x / kWarpSize] = value;
  SyncConsumers();
  float all = 0;
#pragma unroll
  for (uint32_t i = 0; i < kConsumerWarps; ++i) all = op(all, of_warps[i]);
  return all;
}

template <class T>
struct QuantizedX {
  static constexpr uint32_t kChunks = 0;
  const uint8_t* pieces;
  const float* scales;

  // `x` is shared memory of params.num_rows rows of StreamXStride bytes.
  KVS_DEVICE QuantizedX(const StreamGemvParams& params, StreamShared& shared, uint8_t* x)
      : pieces(FirstPiece(params, x)), scales(shared.x_scales) {
    NormPiece early[kEarlyPieces] = {};
    LoadEarly(params, early);
    WaitForPreviousKernel();
    for (uint32_t row = 0; row < params.num_rows; ++row) {
      Quantize(params, shared, early, row, x + row * StreamXStride(params.row_bytes));
    }
    SyncConsumers();
  }
  KVS_DEVICE uint4 Piece(uint32_t chunk, uint32_t step) const {
    return *reinterpret_cast<const uint4*>(pieces + chunk * kChunk + step * kStep);
  }

  // Calls f(piece, held) for each piece of the row that the thread holds.
  template <class F>
  KVS_DEVICE static void ForEachHeld(const StreamGemvParams& params, Vec8<T> (&held)[kHeldPieces],
                                     F&& f) {
#pragma unroll
    for (uint32_t i = 0; i < kHeldPieces; ++i) {
      const uint32_t piece = threadIdx.x + i * kConsumerThreads;
      if (piece < params.in_features / 8) f(i, piece, held[i]);
    }
  }

  KVS_DEVICE static void Quantize(const StreamGemvParams& params, StreamShared& shared,
                                  const NormPiece (&early)[kEarlyPieces], uint32_t row,
                                  uint8_t* codes) {
    Vec8<T> held[kHeldPieces];
    const T* const from = static_cast<const T*>(params.x) + size_t{row} * params.in_features;
    ForEachHeld(params, held, [&](uint32_t, uint32_t piece, Vec8<T>& values) {
      values = Vec8<T>::Load(from, piece);
    });
    if (params.norm_weight != nullptr) Normalize(params, shared, early, row, held);
    float largest = 0;
    if (params.input_scale == 0.0f) {
      ForEachHeld(params, held, [&](uint32_t, uint32_t, const Vec8<T>& values) {
        largest = fmaxf(largest, LargestMagnitude(values));
      });
      largest = AllConsumers<true>(largest, shared.largest[row]);
    }
    const RowScale scale = RowScale::Of(params.input_scale, largest);
    ForEachHeld(params, held, [&](uint32_t, uint32_t piece, const Vec8<T>& values) {
      QuantizeEight(values, scale, codes + piece * 8);
    });
    if (threadIdx.x == 0) shared.x_scales[row] = scale.scale;
  }

  KVS_DEVICE static void Normalize(const StreamGemvParams& params, StreamShared& shared,
                                   const NormPiece (&early)[kEarlyPieces], uint32_t row,
                                   Vec8<T> (&held)[kHeldPieces]) {
    float squares = 0;
    ForEachHeld(params, held, [&](uint32_t, uint32_t, const Vec8<T>& values) {
#pragma unroll
      for (uint32_t i = 0; i < 8; ++i) squares += ToFloat(values[i]) * ToFloat(values[i]);
    });
    squares = AllConsumers<false>(squares, shared.squares[row]);
    const float mean = squares / static_cast<float>(params.in_features);
    const float factor = rsqrtf(mean + params.norm_eps);
    ForEachHeld(params, held, [&](uint32_t i, uint32_t piece, Vec8<T>& values) {
      const auto weights = i < kEarlyPieces ? early[i] : NormPiece::Load(params.norm_weight, piece);
      values = weights.Scale(values, factor);
    });
  }
};

#endif

}  // namespace kvs::gpu::hopper
