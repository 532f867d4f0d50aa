#include "gpu/norm_piece.cuh"
#include "gpu/ops.h"
#include "gpu/reduce.cuh"
#include "gpu/vec.cuh"

namespace kvs::gpu {
namespace {

constexpr uint32_t kMaxThreads = 1024;

template <class T>
KVS_DEVICE Vec8<T> Add(const Vec8<T>& a, const Vec8<T>& b) {
  Vec8<T> sum;
#pragma unroll
  for (uint32_t i = 0; i < 8; ++i) sum[i] = FromFloat<T>(ToFloat(a[i]) + ToFloat(b[i]));
  return sum;
}

template <class T>
KVS_DEVICE float SumSquares(const Vec8<T>& values) {
  float sum = 0;
#pragma unroll
  for (uint32_t i = 0; i < 8; ++i) sum += ToFloat(values[i]) * ToFloat(values[i]);
  return sum;
}

// A block normalizes one row, which it holds in registers: kPieces 16-byte pieces a thread. The
// weight comes from memory, and behind what the next kernel begins with if asked for any later.
template <class T, uint32_t kPieces>
__global__ void __launch_bounds__(kMaxThreads) AddRmsNormKernel(AddRmsNormParams params) {
  const uint32_t num_pieces = params.dim / 8;
  NormPiece weights[kPieces];
#pragma unroll
  for (uint32_t i = 0; i < kPieces; ++i) {
    const uint32_t piece = i * blockDim.x + threadIdx.x;
    if (piece < num_pieces) weights[i] = NormPiece::Load(params.weight, piece);
  }
  AllowNextKernel();
  WaitForPreviousKernel();
  const size_t row = size_t{blockIdx.x} * params.dim;
  T* residual = static_cast<T*>(params.residual) + row;
  const T* x = static_cast<const T*>(params.x) + row;
  Vec8<T> values[kPieces];
#pragma unroll
  for (uint32_t i = 0; i < kPieces; ++i) {
    const uint32_t piece = i * blockDim.x + threadIdx.x;
    if (piece >= num_pieces) break;
    values[i] = Vec8<T>::Load(residual, piece);
    if (params.x != nullptr) values[i] = Add(values[i], Vec8<T>::Load(x, piece));
  }
  float sum = 0;
#pragma unroll
  for (uint32_t i = 0; i < kPieces; ++i) {
    const uint32_t piece = i * blockDim.x + threadIdx.x;
    if (piece >= num_pieces) break;
    if (params.x != nullptr) values[i].Store(residual, piece);
    sum += SumSquares(values[i]);
  }
  const float factor = rsqrtf(BlockSum(sum) / static_cast<float>(params.dim) + params.eps);
  T* out = static_cast<T*>(params.out) + row;
#pragma unroll
  for (uint32_t i = 0; i < kPieces; ++i) {
    const uint32_t piece = i * blockDim.x + threadIdx.x;
    if (piece >= num_pieces) break;
    weights[i].Scale(values[i], factor).Store(out, piece);
  }
}

}  // namespace

// The shape of a block follows from dim alone: a row's bits must not depend on num_rows.
void AddRmsNorm(const AddRmsNormParams& params, const Launch& launch) {
  KVS_CHECK_OP(params.dim % 8, ==, 0u);
  const uint32_t num_pieces = params.dim / 8;
  KVS_CHECK_OP(num_pieces, <=, 4 * kMaxThreads);
  const auto launch_with = [&]<uint32_t kPieces>() {
    const uint32_t threads = (num_pieces + kPieces - 1) / kPieces;
    const dim3 block((threads + kWarpSize - 1) / kWarpSize * kWarpSize);
    DispatchAct(launch.act, [&]<class T>() {
      LaunchKernel(AddRmsNormKernel<T, kPieces>, dim3(params.num_rows), block, 0, launch, params);
    });
  };
  if (num_pieces <= kMaxThreads) {
    launch_with.template operator()<1>();
  } else if (num_pieces <= 2 * kMaxThreads) {
    launch_with.template operator()<2>();
  } else {
    launch_with.template operator()<4>();
  }
}

}  // namespace kvs::gpu
