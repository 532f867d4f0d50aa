// How stream_gemv.cuh brings W to shared memory: what a launch is told, the ring of stages, and the
// producer warps that keep it on its way.
#pragma once

#include <algorithm>

#include "gpu/hopper/barrier.cuh"
#include "gpu/linear_kernels.h"
#include "gpu/mma.cuh"

namespace kvs::gpu::hopper {

struct StreamGemvParams {
  const void* x;             // [num_rows, in_features], of codes where an FP8 weight's are given
  const float* norm_weight;  // [in_features], or null: x is taken as it is
  const void* weight;        // [num_outputs, in_features]; with kSiluMul twice as many rows
  const float* row_scales;   // of FP8: of each row of the weight
  const float* x_scales;     // [num_rows], of x as codes
  void* out;                 // [num_rows, num_outputs]
  uint32_t num_rows;
  uint32_t in_features;
  uint32_t row_bytes;  // of the weight: in_features elements
  uint32_t num_outputs;
  uint32_t num_stages;
  float norm_eps;
  float input_scale;  // of an FP8 weight whose x is quantized on the way; 0: one for each row
  LinearFinish finish;
  bool out_is_f32;
};

inline constexpr uint32_t kConsumerWarps = 16;
inline constexpr uint32_t kConsumerThreads = kConsumerWarps * kWarpSize;
inline constexpr uint32_t kProducerWarps = 4;
inline constexpr uint32_t kStreamThreads = kConsumerThreads + kProducerWarps * kWarpSize;

inline constexpr uint32_t kTileRows = 16;
// Of a row, in bytes: a period's columns of 16 bits, or twice as many of FP8. Everything below
// counts in bytes, so that both are the same walk; a step is 64 bytes, 16 of each lane of a group
// of four.
inline constexpr uint32_t kChunk = 2048;
inline constexpr uint32_t kSlice = kChunk / kConsumerWarps;
inline constexpr uint32_t kStep = 64;
inline constexpr uint32_t kSliceSteps = kSlice / kStep;
static_assert(kChunk == kPeriod * 2 && kConsumerWarps == kNumSlices);
// x of at most so many chunks is held in registers (stream_gemv_x.cuh): of many where it is codes.
inline constexpr uint32_t kRegisterChunks = 4;
inline constexpr uint32_t kManyRegisterChunks = 7;
// Of a stage's row in shared memory: neighbouring rows begin in different halves of the banks.
inline constexpr uint32_t kRowPitch = kChunk + 64;
inline constexpr uint32_t kStageBytes = kTileRows * kRowPitch;
inline constexpr uint32_t kMaxStages = 6;
// Stages on their way at once until x is there, of those that are free: the kernels in front still
// read, and what is on its way here is the queue that their reads stand in. Afterwards as many as
// there are: how many a device's memory needs to be busy depends on the device.
inline constexpr uint32_t kPacedStages = 2;

// Bytes of a row of x in shared memory: an odd number of steps, for the same reason.
constexpr uint32_t StreamXStride(uint32_t row_bytes) { return (row_bytes / kStep | 1) * kStep; }

// The type of an FP8 weight's elements, as Bf16 and F16 are others'.
struct E4M3;

struct StreamShared {
  SharedBarrier full[kMaxStages];
  SharedBarrier empty[kMaxStages];
  SharedBarrier x_asked;  // its phase ends once the consumers have asked for x
  // Of a tile, [consumer][row][row of x]; two, so that one is read while the next is written.
  alignas(16) float sums[2][kConsumerWarps][kTileRows][kMaxStreamRows];
  // Of a row of x, by consumer; what its codes are multiplied by.
  float squares[kMaxStreamRows][kConsumerWarps];
  float largest[kMaxQuantizingRows][kConsumerWarps];
  float x_scales[kMaxQuantizingRows];
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
  const uint32_t row_bytes = params.row_bytes;
  const uint32_t full = SharedAddress(shared.full), first_stage = SharedAddress(stages);
  RingPlace at{.parity = 1}, pacing{.parity = 0};
  uint32_t num_paced = 0;
  bool paces = true;
  for (uint32_t output = range.first; output < range.end; output += range.per_tile) {
    const uint32_t count = min(range.per_tile, range.end - output);
    // Without a row of the last tile, and so without a part in its stages' phases.
    if (producer >= count) return;
    const auto* from = static_cast<const uint8_t*>(params.weight) + size_t{output} * row_bytes;
    for (uint32_t done = 0; done < row_bytes; done += kChunk) {
      const uint32_t bytes = min(kChunk, row_bytes - done);
      shared.empty[at.slot].Wait(at.parity);
      paces = paces && !AnyInWarp(shared.x_asked.HasEnded(0));
      if (paces && num_paced++ >= kPacedStages) {
        shared.full[pacing.slot].Wait(pacing.parity);
        pacing.Advance(params.num_stages);
      }
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

#endif

}  // namespace kvs::gpu::hopper
