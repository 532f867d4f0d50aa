#include <algorithm>

#include "gpu/ops.h"

namespace kvs::gpu {
namespace {

constexpr uint32_t kMaxThreads = 512;

// A block copies one row of 16-byte pieces.
__global__ void GatherRowsKernel(const uint4* in, const uint32_t* rows, uint4* out,
                                 uint32_t pieces) {
  AllowNextKernel();
  WaitForPreviousKernel();
  const uint4* from = in + size_t{rows[blockIdx.x]} * pieces;
  uint4* to = out + size_t{blockIdx.x} * pieces;
  for (uint32_t piece = threadIdx.x; piece < pieces; piece += blockDim.x) to[piece] = from[piece];
}

}  // namespace

void GatherRows(const GatherRowsParams& params, const Launch& launch) {
  if (params.num_rows == 0) return;  // a chunk of a prompt that ends in a later step
  KVS_CHECK_OP(params.dim % 8, ==, 0u);
  const uint32_t pieces = params.dim / 8;
  const dim3 block(std::min((pieces + kWarpSize - 1) / kWarpSize * kWarpSize, kMaxThreads));
  LaunchKernel(GatherRowsKernel, dim3(params.num_rows), block, 0, launch,
               static_cast<const uint4*>(params.in), params.rows, static_cast<uint4*>(params.out),
               pieces);
}

}  // namespace kvs::gpu
