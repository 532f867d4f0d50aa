#include "gpu/sample_row.cuh"

namespace kvs::gpu {
namespace {

constexpr uint32_t kSliceTokens = 16 * kSampleChunk;  // of one block

// A block counts one slice of row blockIdx.y.
__global__ void __launch_bounds__(kSelectThreads, 1) HistogramKernel(SampleBatch batch) {
  __shared__ Histogram histogram;
  __shared__ BlockScratch<uint64_t> scratch;
  WaitForPreviousKernel();
  AllowNextKernel();
  const uint32_t index = blockIdx.y;
  const PackedRow& packed = batch.rows[index];
  if (!packed.needs_histogram()) return;
  const RowState state = LoadRowState(batch, index, scratch);
  if (MaxToken(state.max_key) == kNoToken) return;
  const uint64_t row_weight = RowWeight(state, packed.factor, scratch);
  const float min_exponent = TopPMinExponent(packed, batch.vocab_size, row_weight);
  const CandidateOrder order(state.max, packed.factor, min_exponent);
  histogram.Clear();
  __syncthreads();
  const uint32_t begin = blockIdx.x * kSliceTokens;
  const uint32_t end = min(begin + kSliceTokens, batch.vocab_size);
  ForEachLogit(state.row, batch.vocab_size, begin, end, [&](float logit, uint32_t) {
    if (!(order.Exponent(logit) >= min_exponent)) return;
    histogram.Add(order.FirstDigit(logit), order.Weight(logit));
  });
  __syncthreads();
  if (histogram.counts[threadIdx.x] == 0) return;
  RowHistogram& sum = batch.histograms[index];
  static_assert(sizeof(unsigned long long) == sizeof(uint64_t));
  atomicAdd(reinterpret_cast<unsigned long long*>(&sum.weights[threadIdx.x]),
            static_cast<unsigned long long>(histogram.Weight()));
  atomicAdd(&sum.counts[threadIdx.x], histogram.counts[threadIdx.x]);
}

}  // namespace

void CountCandidates(const SampleBatch& batch, const Launch& launch) {
  const uint32_t slices = (batch.vocab_size + kSliceTokens - 1) / kSliceTokens;
  LaunchKernel(HistogramKernel, dim3(slices, batch.num_rows), dim3(kSelectThreads), 0, launch,
               batch);
}

}  // namespace kvs::gpu
