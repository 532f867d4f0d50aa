#include "gpu/sample_row.cuh"

namespace kvs::gpu {
namespace {

// floor(uniform * total), within [0, total).
KVS_DEVICE uint64_t Part(double uniform, uint64_t total) {
  const auto part = static_cast<uint64_t>(uniform * static_cast<double>(total));
  return min(part, total - 1);
}

// Draws from the whole row, in the order of tokens: finds the chunk, then the token in it.
KVS_DEVICE TokenId DrawAny(const PackedRow& packed, const RowState& state, SelectMemory& memory) {
  const uint64_t weight = ChunkWeight(state, packed.factor);
  uint64_t total;
  const uint64_t end = BlockInclusiveSum(weight, &total, memory.scratch);
  const uint64_t target = Part(packed.uniform, total);
  if (end - weight <= target && target < end) {
    memory.bin = threadIdx.x;
    memory.before = end - weight;
    memory.logits[0] = MaxValue(state.chunk.max_key);
    memory.logits[1] = static_cast<float>(weight);
  }
  __syncthreads();
  const uint32_t token = memory.bin * kSampleChunk + threadIdx.x;
  const double within = static_cast<double>(target - memory.before) / memory.logits[1];
  const float chunk_max = memory.logits[0];
  __syncthreads();
  // The weights of the chunk's tokens stand to its own sum as the chunk's weight to `total`.
  const uint64_t token_weight =
      token < state.vocab_size ? FixedPoint(exp2f((state.row[token] - chunk_max) * packed.factor))
                               : 0;
  const uint64_t token_end = BlockInclusiveSum(token_weight, &total, memory.scratch);
  const uint64_t token_target = Part(within, total);
  if (token_end - token_weight <= token_target && token_target < token_end) memory.bin = token;
  __syncthreads();
  return TokenId{memory.bin};
}

// The k-th largest of the chunks' largest logits: at least k logits of the row reach it.
// -infinity where there are fewer chunks.
KVS_DEVICE float KthChunkMax(const RowState& state, uint32_t k, SelectMemory& memory) {
  const uint32_t num_chunks = NumChunks(state.vocab_size);
  if (k > num_chunks) return kMinusInfinity;
  auto* keys = reinterpret_cast<uint64_t*>(memory.logits);
  static_assert(sizeof memory.logits >= kSelectThreads * sizeof(uint64_t));
  keys[threadIdx.x] = state.chunk.max_key;  // distinct: a key holds its token
  __syncthreads();
  uint32_t rank = 0;
  for (uint32_t i = 0; i < num_chunks; ++i) rank += keys[i] > state.chunk.max_key ? 1 : 0;
  if (threadIdx.x < num_chunks && rank == k - 1) memory.before = state.chunk.max_key;
  __syncthreads();
  const float kth = MaxValue(memory.before);
  __syncthreads();
  return kth;
}

// The candidate at the bound: one among those that is_left(key) is true for.
template <class IsLeft>
KVS_DEVICE TokenId TokenAt(const Bound& bound, const Candidates& candidates,
                           const IsLeft& is_left) {
  SelectMemory& memory = candidates.memory();
  candidates.ForEach([&](float logit, uint32_t token) {
    const uint64_t key = candidates.order().Key(logit, token);
    if (bound.IsAt(key) && is_left(key)) memory.bin = token;
  });
  __syncthreads();
  return TokenId{memory.bin};
}

KVS_DEVICE bool TakesAll(uint64_t) { return true; }

// Draws from what top_p alone leaves, the most likely first.
KVS_DEVICE TokenId DrawTopP(const PackedRow& packed, const RowState& state,
                            const RowHistogram& histogram, SelectMemory& memory) {
  const uint64_t row_weight = RowWeight(state, packed.factor, memory.scratch);
  const float min_exponent = TopPMinExponent(packed, state.vocab_size, row_weight);
  const CandidateOrder order(state.max, packed.factor, min_exponent);
  Candidates candidates(state.row, state.vocab_size, order, kMinusInfinity, min_exponent, memory,
                        false);
  const auto weight_of = [&](float logit) { return order.Weight(logit); };
  const Leading kept = SelectLeading(candidates, &histogram, TakesAll, weight_of, [&](uint64_t) {
    return static_cast<uint64_t>(ceil(packed.top_p * static_cast<double>(row_weight)));
  });
  const Leading drawn = SelectLeading(candidates, &histogram, TakesAll, weight_of, [&](uint64_t) {
    return Part(packed.uniform, kept.weight) + 1;
  });
  return TokenAt(drawn.bound, candidates, TakesAll);
}

// Draws from what min_p, top_k and top_p leave, the most likely first.
KVS_DEVICE TokenId DrawTruncated(const PackedRow& packed, const RowState& state,
                                 SelectMemory& memory) {
  const float min_logit =
      packed.top_k > 0 ? KthChunkMax(state, packed.top_k, memory) : kMinusInfinity;
  const float min_exponent = fmaxf(packed.min_exponent, kLowestExponent);
  const CandidateOrder order(state.max, packed.factor,
                             fmaxf(min_exponent, (min_logit - state.max) * packed.factor));
  Candidates candidates(state.row, state.vocab_size, order, min_logit, min_exponent, memory, true);
  Bound by_rank, by_weight;
  if (packed.top_k > 0) {
    by_rank = SelectLeading(
                  candidates, nullptr, TakesAll, [](float) { return uint64_t{1}; },
                  [&](uint64_t) { return uint64_t{packed.top_k}; })
                  .bound;
  }
  const auto weight_of = [&](float logit) { return order.Weight(logit); };
  if (packed.top_p < 1.0f) {
    const auto is_left = [&](uint64_t key) { return by_rank.Holds(key); };
    by_weight = SelectLeading(candidates, nullptr, is_left, weight_of, [&](uint64_t total) {
                  return static_cast<uint64_t>(ceil(packed.top_p * static_cast<double>(total)));
                }).bound;
  }
  const auto is_left = [&](uint64_t key) { return by_rank.Holds(key) && by_weight.Holds(key); };
  const Leading drawn = SelectLeading(candidates, nullptr, is_left, weight_of, [&](uint64_t total) {
    return Part(packed.uniform, total) + 1;
  });
  return TokenAt(drawn.bound, candidates, is_left);
}

// A block chooses the token of one row.
__global__ void __launch_bounds__(kSelectThreads, 1) ChooseKernel(SampleBatch batch) {
  __shared__ SelectMemory memory;
  WaitForPreviousKernel();
  AllowNextKernel();
  const uint32_t index = blockIdx.x;
  const PackedRow& packed = batch.rows[index];
  const RowState state = LoadRowState(batch, index, memory.scratch);
  TokenId token = MaxToken(state.max_key);
  if (batch.has_entries && batch.broken[index] != 0) token = kNoToken;
  if (token != kNoToken) {
    if (packed.draw == 0) {
      token = TokenId{packed.given};
    } else if (packed.needs_histogram()) {
      token = DrawTopP(packed, state, batch.histograms[index], memory);
    } else if (packed.factor > 0) {
      token = packed.truncates() ? DrawTruncated(packed, state, memory)
                                 : DrawAny(packed, state, memory);
    }
  }
  if (packed.needs_histogram()) {
    batch.histograms[index].weights[threadIdx.x] = 0;
    batch.histograms[index].counts[threadIdx.x] = 0;
  }
  if (threadIdx.x == 0) batch.token_ids[index] = token;
}

}  // namespace

void ChooseTokens(const SampleBatch& batch, const Launch& launch) {
  LaunchKernel(ChooseKernel, dim3(batch.num_rows), dim3(kSelectThreads), 0, launch, batch);
}

}  // namespace kvs::gpu
