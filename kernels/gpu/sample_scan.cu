#include <algorithm>

#include "gpu/sample_scan.cuh"

namespace kvs::gpu {
namespace {

constexpr uint32_t kWarps = 4;
constexpr uint32_t kThreads = kWarps * kWarpSize;
constexpr uint32_t kArgmaxBlocksPerSm = 8;

// The sum of exp2((value - max) * factor) over the chunk, added up in one order.
KVS_DEVICE float ChunkSum(const float (&values)[kLaneValues], float max, float factor) {
  if (max == kMinusInfinity) return 0.0f;
  float sum = 0.0f;
#pragma unroll
  for (uint32_t i = 0; i < kLaneValues; ++i) sum += exp2f((values[i] - max) * factor);
  return WarpSum(sum);
}

// A warp reads one chunk. blockIdx.y is the row.
__global__ void __launch_bounds__(kThreads) ScanKernel(SampleBatch batch, uint32_t num_chunks) {
  WaitForPreviousKernel();
  AllowNextKernel();
  const uint32_t chunk = blockIdx.x * kWarps + threadIdx.x / kWarpSize;
  if (chunk >= num_chunks) return;
  const size_t index = blockIdx.y;
  const float* row = batch.logits + size_t{batch.logits_rows[index]} * batch.vocab_size;
  const uint32_t first = chunk * kSampleChunk;
  float values[kLaneValues];
  LoadChunk(row, batch.vocab_size, first, values);
  ChunkState state;
  state.max_key = WarpReduce(LaneMaxKey(values, batch.vocab_size, first), Larger);
  const PackedRow& packed = batch.rows[index];
  state.sum = packed.draw != 0 && packed.needs_sums()
                  ? ChunkSum(values, MaxValue(state.max_key), packed.factor)
                  : 0.0f;
  if (threadIdx.x % kWarpSize == 0) batch.chunks[index * num_chunks + chunk] = state;
}

// gridDim.x blocks share out the chunks of row blockIdx.y; the last to arrive ends it. How many
// they are does not show in the result.
__global__ void __launch_bounds__(kThreads) ArgmaxKernel(ArgmaxParams params, uint32_t num_chunks) {
  __shared__ BlockScratch<uint64_t> scratch;
  __shared__ bool is_last;
  WaitForPreviousKernel();
  AllowNextKernel();
  const size_t index = blockIdx.y;
  const size_t logits_row = params.logits_rows == nullptr ? index : params.logits_rows[index];
  const float* row = params.logits + logits_row * params.vocab_size;
  uint64_t key = 0;
  for (uint32_t chunk = blockIdx.x * kWarps + threadIdx.x / kWarpSize; chunk < num_chunks;
       chunk += gridDim.x * kWarps) {
    float values[kLaneValues];
    LoadChunk(row, params.vocab_size, chunk * kSampleChunk, values);
    key = Larger(key, LaneMaxKey(values, params.vocab_size, chunk * kSampleChunk));
  }
  key = BlockReduce(key, uint64_t{0}, Larger, scratch);
  if (gridDim.x > 1) {
    uint64_t* partial_keys = params.partial_keys + index * num_chunks;
    if (threadIdx.x == 0) {
      partial_keys[blockIdx.x] = key;
      __threadfence();
      is_last = atomicAdd(params.arrivals + index, 1u) == gridDim.x - 1;
    }
    __syncthreads();
    if (!is_last) return;
    __threadfence();
    key = 0;
    for (uint32_t i = threadIdx.x; i < gridDim.x; i += kThreads) key = Larger(key, partial_keys[i]);
    key = BlockReduce(key, uint64_t{0}, Larger, scratch);
    if (threadIdx.x == 0) params.arrivals[index] = 0;
  }
  if (threadIdx.x == 0) params.token_ids[index] = MaxToken(key);
}

}  // namespace

void ScanLogits(const SampleBatch& batch, const Launch& launch) {
  const uint32_t num_chunks = NumChunks(batch.vocab_size);
  LaunchKernel(ScanKernel, dim3((num_chunks + kWarps - 1) / kWarps, batch.num_rows), dim3(kThreads),
               0, launch, batch, num_chunks);
}

void Argmax(const ArgmaxParams& params, const Launch& launch) {
  const uint32_t num_chunks = NumChunks(params.vocab_size);
  const auto processors = static_cast<uint32_t>(launch.facts->num_multiprocessors);
  const uint32_t wanted = (kArgmaxBlocksPerSm * processors + params.num_rows - 1) / params.num_rows;
  const uint32_t blocks = std::min((num_chunks + kWarps - 1) / kWarps, wanted);
  LaunchKernel(ArgmaxKernel, dim3(blocks, params.num_rows), dim3(kThreads), 0, launch, params,
               num_chunks);
}

}  // namespace kvs::gpu
