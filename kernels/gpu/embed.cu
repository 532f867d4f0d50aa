#include <algorithm>

#include "gpu/gpu_weight.h"
#include "gpu/ops.h"
#include "gpu/vec.cuh"

namespace kvs::gpu {
namespace {

constexpr uint32_t kMaxThreads = 512;

// A block copies one row, converting where the table's type is not the activations'.
template <class Stored, class T>
__global__ void EmbedKernel(const Stored* table, uint32_t vocab_size, uint32_t dim,
                            const TokenId* token_ids, const uint32_t* sampled_rows,
                            const TokenId* sampled, T* out) {
  AllowNextKernel();
  WaitForPreviousKernel();
  // A row of logits that was not finite left kNoToken in device memory as its sequence's next
  // input. The host drops that sequence; until then its row only has to be read from the table.
  const uint32_t row = sampled_rows == nullptr ? kNoSampledRow : sampled_rows[blockIdx.x];
  const TokenId given = row == kNoSampledRow ? token_ids[blockIdx.x] : sampled[row];
  const uint32_t token = min(given.value, vocab_size - 1);
  const Stored* from = table + size_t{token} * dim;
  T* to = out + size_t{blockIdx.x} * dim;
  for (uint32_t piece = threadIdx.x; piece < dim / 8; piece += blockDim.x) {
    const auto values = Vec8<Stored>::Load(from, piece);
    Vec8<T> converted;
#pragma unroll
    for (uint32_t i = 0; i < 8; ++i) converted[i] = Convert<T>(values[i]);
    converted.Store(to, piece);
  }
}

}  // namespace

void Embed(const EmbedParams& params, const Launch& launch) {
  const auto& table = static_cast<const GpuWeight&>(*params.table);
  const uint32_t dim = table.in_features;
  KVS_CHECK_OP(dim % 8, ==, 0u);
  const dim3 block(std::min((dim / 8 + kWarpSize - 1) / kWarpSize * kWarpSize, kMaxThreads));
  DispatchAct(table.dtype, [&]<class Stored>() {
    DispatchAct(launch.act, [&]<class T>() {
      LaunchKernel(EmbedKernel<Stored, T>, dim3(params.num_tokens), block, 0, launch,
                   table.data.as<const Stored>(), table.out_features, dim, params.token_ids,
                   params.sampled_rows, params.sampled, static_cast<T*>(params.out));
    });
  });
}

}  // namespace kvs::gpu
