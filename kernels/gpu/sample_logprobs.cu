#include "gpu/sample_select.cuh"

namespace kvs::gpu {
namespace {

constexpr float kLog2E = 1.44269504f;
constexpr double kLn2 = 0.693147180559945309;

// What a pass over the row finds: its largest logit, how many are larger than the chosen one, and a
// logit that at least k of the row reach.
struct RowFacts {
  float max;
  uint32_t num_greater;
  float min_logit;
};

// The k-th largest of the warps' largest logits. k <= kWarpSize, 0 = none is wanted.
KVS_DEVICE float KthWarpMax(float warp_max, uint32_t k, SelectMemory& memory) {
  const uint32_t lane = threadIdx.x % kWarpSize;
  const uint32_t warp = threadIdx.x / kWarpSize;
  if (lane == 0) memory.logits[warp] = warp_max;
  __syncthreads();
  uint32_t rank = 0;
  for (uint32_t i = 0; i < kSelectThreads / kWarpSize; ++i) {
    const float other = memory.logits[i];
    rank += other > warp_max || (other == warp_max && i < warp) ? 1 : 0;
  }
  if (lane == 0 && rank + 1 == k) memory.logits[kWarpSize] = warp_max;
  __syncthreads();
  const float kth = memory.logits[kWarpSize];
  __syncthreads();
  return kth;
}

KVS_DEVICE RowFacts Survey(const float* row, uint32_t vocab_size, float chosen, uint32_t k,
                           SelectMemory& memory) {
  float max = kMinusInfinity;
  uint32_t num_greater = 0;
  ForEachLogit(row, vocab_size, [&](float logit, uint32_t) {
    max = fmaxf(max, logit);
    num_greater += logit > chosen ? 1 : 0;
  });
  max = WarpReduce(max, [](float a, float b) { return fmaxf(a, b); });
  RowFacts facts;
  facts.min_logit = k > 0 ? KthWarpMax(max, k, memory) : kMinusInfinity;
  facts.max = k == 1 ? facts.min_logit : KthWarpMax(max, 1, memory);
  uint64_t total;
  BlockInclusiveSum(uint64_t{num_greater}, &total, memory.scratch);
  facts.num_greater = static_cast<uint32_t>(total);
  return facts;
}

// log2 of the sum of exp(logit - max).
KVS_DEVICE double Log2Sum(const float* row, uint32_t vocab_size, float max, SelectMemory& memory) {
  double sum = 0;
  ForEachLogit(row, vocab_size,
               [&](float logit, uint32_t) { sum += exp2f((logit - max) * kLog2E); });
  auto& scratch = reinterpret_cast<BlockScratch<double>&>(memory.scratch);
  return log2(BlockReduce(
      sum, 0.0, [](double a, double b) { return a + b; }, scratch));
}

// The k most likely tokens, sorted: those that lead, each at the place that its rank among them is.
KVS_DEVICE void FillTop(Candidates& candidates, uint32_t k, double log_sum, LogprobRecord& record) {
  SelectMemory& memory = candidates.memory();
  const CandidateOrder& order = candidates.order();
  const Bound bound = SelectLeading(
                          candidates, nullptr, [](uint64_t) { return true; },
                          [](float) { return uint64_t{1}; }, [k](uint64_t) { return uint64_t{k}; })
                          .bound;
  candidates.Widen();
  if (threadIdx.x == 0) memory.bin = 0;
  __syncthreads();
  // The histograms are done with: their memory holds the leaders' keys.
  auto* keys = reinterpret_cast<uint64_t*>(memory.histogram.counts);
  auto* logits = reinterpret_cast<float*>(memory.histogram.high);
  candidates.ForEach([&](float logit, uint32_t token) {
    const uint64_t key = order.Key(logit, token);
    if (!bound.Holds(key)) return;
    const uint32_t at = atomicAdd(&memory.bin, 1u);
    keys[at] = key;
    logits[at] = logit;
  });
  __syncthreads();
  if (threadIdx.x >= memory.bin) return;
  const uint64_t key = keys[threadIdx.x];
  uint32_t rank = 0;
  for (uint32_t i = 0; i < memory.bin; ++i) rank += keys[i] < key ? 1 : 0;
  record.top_ids[rank] = TokenId{static_cast<uint32_t>(key) & (kMaxVocab - 1)};
  record.top_logprobs[rank] = static_cast<float>(logits[threadIdx.x] - log_sum);
}

// A block works on one row.
__global__ void __launch_bounds__(kSelectThreads, 1) LogprobKernel(SampleBatch batch) {
  __shared__ SelectMemory memory;
  WaitForPreviousKernel();
  AllowNextKernel();
  const uint32_t index = blockIdx.x;
  const PackedRow& packed = batch.rows[index];
  const TokenId token = batch.token_ids[index];
  if (packed.record == kNoRecord || token == kNoToken) return;
  const float* row = batch.logits + size_t{batch.logits_rows[index]} * batch.vocab_size;
  LogprobRecord& record = batch.logprobs[packed.record];
  const uint32_t k = min(packed.num_logprobs, batch.vocab_size);
  if (threadIdx.x < kMaxLogprobs) {
    record.top_ids[threadIdx.x] = TokenId{0};
    record.top_logprobs[threadIdx.x] = 0.0f;
  }
  const float chosen = row[token.value];
  const RowFacts facts = Survey(row, batch.vocab_size, chosen, k, memory);
  const double log_sum = facts.max + kLn2 * Log2Sum(row, batch.vocab_size, facts.max, memory);
  if (threadIdx.x == 0) {
    record.logprob = static_cast<float>(chosen - log_sum);
    record.rank = facts.num_greater + 1;
  }
  if (k == 0) return;
  const float min_logit = fmaxf(facts.min_logit, -3.402823466e38f);  // -infinity is no candidate
  const CandidateOrder order(facts.max, 1.0f, min_logit - facts.max);
  Candidates candidates(row, batch.vocab_size, order, min_logit, kMinusInfinity, memory, true);
  FillTop(candidates, k, log_sum, record);
}

}  // namespace

void FillLogprobs(const SampleBatch& batch, const Launch& launch) {
  LaunchKernel(LogprobKernel, dim3(batch.num_rows), dim3(kSelectThreads), 0, launch, batch);
}

}  // namespace kvs::gpu
