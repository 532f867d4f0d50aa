// Linear: out = x * W^T over packed panels. The rows of x are rewritten once per call into the
// format that the kernel reads, cut into blocks of k so that a block of a panel stays in the L2
// cache while all rows pass over it; each task then computes some rows of some panels.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cpu/packed_weight.h"
#include "cpu/thread_pool.h"
#include "kvserve/kernel_params.h"

namespace kvs::cpu {

// Bytes from one packed row of x to the next within a block of k: not a multiple of 4096, so that
// the rows of a tile fall into different sets of the L1 cache.
inline constexpr size_t kXRowBytes = 2048 + 64;
// Rows packed at a time: bounds the scratch memory, which also has to stay in the L3 cache.
inline constexpr uint32_t kXMaxRows = 512;

// Some rows and columns of one k-block of one panel.
struct LinearBlock {
  const uint8_t* x;      // [rows][kXRowBytes]
  const uint8_t* panel;  // at the first k of the block
  const uint8_t* next;   // of the same shape, run after this one; null where there is none
  float* out;            // [rows][out_stride]
  size_t out_stride;
  uint32_t rows;
  uint32_t cols;  // <= kPanelCols
  uint32_t k;     // inputs in this block
  bool accumulate;
};

// What one instruction set provides for one weight dtype.
struct LinearKernel {
  uint32_t block_k;  // inputs per packed row; even
  // Rewrites in[0, k) as one packed row, k <= block_k; pads to an even count with zero.
  void (*pack_x)(const float* in, uint32_t k, uint8_t* out);
  void (*run)(const LinearBlock& block);
};

struct LinearKernels {
  LinearKernel bf16;
  LinearKernel f16;
  LinearKernel f32;
};

class LinearOp {
 public:
  explicit LinearOp(const LinearKernels& kernels) : kernels_(kernels) {}

  // Bytes of scratch for calls of up to max_rows rows and max_in inputs.
  static size_t ScratchBytes(uint32_t max_rows, uint32_t max_in);
  void Run(const LinearParams& params, uint8_t* scratch, size_t scratch_bytes,
           ThreadPool& pool) const;

 private:
  const LinearKernels& kernels_;
};

}  // namespace kvs::cpu
