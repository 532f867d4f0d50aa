// The matrix products of this folder, out = x * W^T, and the order in which they sum.
//
// gemv.cu streams the weights once past a few rows of x, hopper/stream_gemv.cu does so faster on
// compute capability 9.0; gemm_tiled.cu serves any number of rows. All compute every output element
// by the same operations in the same order, so that a row's result depends on that row and W alone,
// bit for bit, whatever the other rows and whichever of the three ran:
//
//   - `in_features` is cut into steps of kStepK, padded with zeros. Every kPeriod columns are dealt
//     out to kNumSlices slices, kSliceColumns to each.
//   - A slice is one float32 accumulator of 16x8x16 tensor-core products with W as the left
//     operand, over its columns in ascending order. Slot i of a step's products holds the same
//     element of W in all kernels: lane t of a group of four multiplies elements 8t..8t+3 in the
//     first product and 8t+4..8t+7 in the second (a 16-byte piece of a row is two fragments as it
//     is loaded).
//   - The slices' sums are added to 0 from the first to the last.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "gpu/launch.h"
#include "kvserve/kernel_params.h"

namespace kvs::gpu {

inline constexpr uint32_t kStepK = 32;
inline constexpr uint32_t kNumSlices = 16;
inline constexpr uint32_t kSliceColumns = 2 * kStepK;
inline constexpr uint32_t kPeriod = kNumSlices * kSliceColumns;

constexpr uint32_t CeilDiv(uint32_t a, uint32_t b) { return (a + b - 1) / b; }
constexpr uint32_t NumSteps(uint32_t in_features) { return CeilDiv(in_features, kStepK); }
constexpr uint32_t NumPeriods(uint32_t in_features) { return CeilDiv(in_features, kPeriod); }

// Device memory that Gemv keeps partial sums in when several CTAs share an output. One stream at a
// time may use it.
struct GemvWorkspace {
  float* partials;  // [num_partials]
  size_t num_partials;
  uint32_t* counters;  // [kNumGemvCounters], zero between launches
};
inline constexpr uint32_t kNumGemvCounters = 1024;
inline constexpr uint32_t kMaxGemvRows = 32;

// Allows the kernels their shared memory. Once, before the first launch.
void PrepareGemv(const DeviceFacts& facts);
void PrepareGemmTiled(const DeviceFacts& facts);

// REQUIRES of both: the weight is a GpuWeight of launch.act, in_features is a multiple of 8, and x,
// out and the weight are 16-byte aligned.

// Whether num_rows is at most kMaxGemvRows and their part of x fits into shared memory.
bool GemvServes(const LinearParams& params, const GemvWorkspace& workspace,
                const DeviceFacts& facts);
// REQUIRES: GemvServes.
void Gemv(const LinearParams& params, const GemvWorkspace& workspace, const Launch& launch);
void GemmTiled(const LinearParams& params, const Launch& launch);

// x for a weight of kF8E4M3: codes and, for each row, what they are multiplied by.
struct QuantizedRows {
  uint8_t* codes;  // [num_rows, in_features], 16-byte aligned
  float* scales;   // [num_rows]
};
// quantize_rows.cu: params.x as its weight, of kF8E4M3, wants it.
void QuantizeRows(const LinearParams& params, const QuantizedRows& to, const Launch& launch);
// scale_sums.cu: params.out from `sums` [num_rows, out_features] of products of codes.
void ScaleSums(const LinearParams& params, const float* sums, const QuantizedRows& quantized,
               const Launch& launch);

// hopper/stream_gemv.cu: compute capability 9.0 alone, and the only one that normalizes x
// (LinearParams::norm_weight) and adds to out (finish). It takes weights of kF8E4M3, too: it sums
// products of codes in float32, and multiplies the sum by the scales of both rows. It quantizes up
// to kMaxQuantizingRows rows of x itself; more are given as `quantized`.
inline constexpr uint32_t kMaxStreamRows = 8;
inline constexpr uint32_t kMaxQuantizingRows = 2;

void PrepareStreamGemv(const DeviceFacts& facts);
// Whether there are at most kMaxStreamRows rows, they fit into shared memory, and a row of the
// weight is a multiple of 64 bytes.
bool StreamGemvServes(const LinearParams& params, const DeviceFacts& facts);
// REQUIRES: StreamGemvServes, and a weight, x and out as above.
void StreamGemv(const LinearParams& params, const Launch& launch,
                const QuantizedRows* quantized = nullptr);

// hopper/stream_gemm.cu: compute capability 9.0 alone; some tens of rows past a weight that is read
// once, also with LinearFinish::kSiluMul. The order of its sums is its own.
inline constexpr uint32_t kMaxStreamGemmRows = 128;

void PrepareStreamGemm(const DeviceFacts& facts);
// Whether there are at most kMaxStreamGemmRows rows, out_features is a multiple of 8 (16 with
// kSiluMul) and in_features of 64, and params ask for no more than it does.
bool StreamGemmServes(const LinearParams& params, const DeviceFacts& facts);
// REQUIRES: StreamGemmServes, and a weight, x and out as above.
void StreamGemm(const LinearParams& params, const Launch& launch);

}  // namespace kvs::gpu
