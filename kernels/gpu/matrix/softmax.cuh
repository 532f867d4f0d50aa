// The running softmax of a column of scores, one query in 16 lanes' worth of a wave: base 2, scores
// beyond what the query sees are -infinity.
#pragma once

#include "gpu/fast_math.cuh"
#include "gpu/matrix.cuh"

namespace kvs::gpu {

template <uint32_t kHeadDim>
struct ColumnState {
  // Lower than any score; finite, so that the difference of two of them is a number.
  static constexpr float kNoScore = -1e30f;

  float max = kNoScore;
  float sum = 0.0f;              // over this lane's rows alone
  MatrixSum out[kHeadDim / 16];  // rows are dimensions

  KVS_DEVICE void Clear() {
    max = kNoScore;
    sum = 0.0f;
#pragma unroll
    for (uint32_t d = 0; d < kHeadDim / 16; ++d) out[d] = MatrixSum();
  }

  // Turns scores into weights, 2^(score - max), and rescales what was summed before.
  template <uint32_t kRowTiles>
  KVS_DEVICE void Update(MatrixSum (&scores)[kRowTiles]) {
    float top = max;
#pragma unroll
    for (uint32_t r = 0; r < kRowTiles; ++r) {
#pragma unroll
      for (uint32_t i = 0; i < kSumValues; ++i) top = fmaxf(top, scores[r].values[i]);
    }
    top = ReduceColumn(top, [](float a, float b) { return fmaxf(a, b); });
    const float factor = Exp2(max - top);
    max = top;
    sum *= factor;
#pragma unroll
    for (uint32_t d = 0; d < kHeadDim / 16; ++d) out[d].values *= factor;
#pragma unroll
    for (uint32_t r = 0; r < kRowTiles; ++r) {
#pragma unroll
      for (uint32_t i = 0; i < kSumValues; ++i) {
        scores[r].values[i] = Exp2(scores[r].values[i] - top);
        sum += scores[r].values[i];
      }
    }
  }

  KVS_DEVICE float Total() const {
    return ReduceColumn(sum, [](float a, float b) { return a + b; });
  }
};

// Scales scores whose row 0 is `first` and removes rows outside [begin, end).
KVS_DEVICE void ScaleAndMask(MatrixSum& scores, float scale, uint32_t first, uint32_t begin,
                             uint32_t end) {
#pragma unroll
  for (uint32_t i = 0; i < kSumValues; ++i) {
    const uint32_t at = first + SumRow(WaveLane(), i);
    scores.values[i] = at >= begin && at < end ? scores.values[i] * scale : -INFINITY;
  }
}

}  // namespace kvs::gpu
