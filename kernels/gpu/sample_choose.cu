#include "gpu/sample_select.cuh"

namespace kvs::gpu {
namespace {

static_assert(kMaxVocab / kSampleChunk <= kSelectThreads, "a thread holds one chunk's state");

// What a draw needs besides the row: the largest logit, and by thread the state of one chunk.
struct RowState {
  const float* row;
  uint32_t vocab_size;
  float max;
  ChunkState chunk;  // of this thread; max_key 0 past the row's end
};

// floor(uniform * total), within [0, total).
KVS_DEVICE uint64_t Part(double uniform, uint64_t total) {
  const auto part = static_cast<uint64_t>(uniform * static_cast<double>(total));
  return min(part, total - 1);
}

// The weight of this thread's chunk relative to the row's largest logit.
KVS_DEVICE uint64_t ChunkWeight(const RowState& state, float factor) {
  if (state.chunk.sum == 0.0f) return 0;
  const float exponent = (MaxValue(state.chunk.max_key) - state.max) * factor;
  return FixedPoint(state.chunk.sum * exp2f(exponent));
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

// The least exponent that a candidate of the row must have. `row_weight` is of the whole row, or 0.
KVS_DEVICE float MinExponent(const PackedRow& packed, uint32_t vocab_size, uint64_t row_weight) {
  const float floor = fmaxf(packed.min_exponent, kLowestExponent);
  if (row_weight == 0) return floor;
  // Those of a probability below (1 - top_p) / n have together less than 1 - top_p: the others
  // reach top_p. The slack is for the rounding of both; it costs a few more candidates.
  const float tail = (1.0f - packed.top_p) / static_cast<float>(vocab_size);
  return fmaxf(floor, log2f(tail * (static_cast<float>(row_weight) * 0x1p-40f)) - 0.02f);
}

// Draws from what min_p, top_k and top_p leave, the most likely first.
KVS_DEVICE TokenId DrawTruncated(const PackedRow& packed, const RowState& state,
                                 SelectMemory& memory) {
  uint64_t row_weight = 0;
  if (packed.needs_sums()) {
    BlockInclusiveSum(ChunkWeight(state, packed.factor), &row_weight, memory.scratch);
  }
  const float min_logit =
      packed.top_k > 0 ? KthChunkMax(state, packed.top_k, memory) : kMinusInfinity;
  const float min_exponent = MinExponent(packed, state.vocab_size, row_weight);
  const CandidateOrder order(state.max, packed.factor,
                             fmaxf(min_exponent, (min_logit - state.max) * packed.factor));
  Candidates candidates(state.row, state.vocab_size, order, min_logit, min_exponent, memory);

  Bound by_rank, by_weight;
  if (packed.top_k > 0) {
    by_rank = SelectLeading(
        candidates, [](uint64_t) { return true; }, [](float) { return uint64_t{1}; },
        [&](uint64_t) { return uint64_t{packed.top_k}; });
  }
  const auto weight_of = [&](float logit) { return order.Weight(logit); };
  if (packed.top_p < 1.0f) {
    by_weight = SelectLeading(
        candidates, [&](uint64_t key) { return by_rank.Holds(key); }, weight_of,
        [&](uint64_t total) {
          const auto all = static_cast<double>(row_weight > 0 ? row_weight : total);
          return static_cast<uint64_t>(ceil(packed.top_p * all));
        });
  }
  const auto is_left = [&](uint64_t key) { return by_rank.Holds(key) && by_weight.Holds(key); };
  const Bound drawn = SelectLeading(candidates, is_left, weight_of, [&](uint64_t total) {
    return Part(packed.uniform, total) + 1;
  });
  candidates.ForEach([&](float logit, uint32_t token) {
    const uint64_t key = order.Key(logit, token);
    if (drawn.IsAt(key) && is_left(key)) memory.bin = token;
  });
  __syncthreads();
  return TokenId{memory.bin};
}

// A block chooses the token of one row.
__global__ void __launch_bounds__(kSelectThreads, 1) ChooseKernel(SampleBatch batch) {
  __shared__ SelectMemory memory;
  WaitForPreviousKernel();
  AllowNextKernel();
  const uint32_t index = blockIdx.x;
  const uint32_t num_chunks = NumChunks(batch.vocab_size);
  const PackedRow& packed = batch.rows[index];
  RowState state;
  state.row = batch.logits + size_t{batch.logits_rows[index]} * batch.vocab_size;
  state.vocab_size = batch.vocab_size;
  state.chunk = {0, 0.0f};
  if (threadIdx.x < num_chunks) state.chunk = batch.chunks[index * num_chunks + threadIdx.x];
  const uint64_t max_key = BlockReduce(state.chunk.max_key, uint64_t{0}, Larger, memory.scratch);
  state.max = MaxValue(max_key);
  TokenId token = MaxToken(max_key);
  if (batch.has_entries && batch.broken[index] != 0) token = kNoToken;
  if (token != kNoToken) {
    if (packed.draw == 0) {
      token = TokenId{packed.given};
    } else if (packed.factor > 0) {
      token = packed.truncates() ? DrawTruncated(packed, state, memory)
                                 : DrawAny(packed, state, memory);
    }
  }
  if (threadIdx.x == 0) batch.token_ids[index] = token;
}

}  // namespace

void ChooseTokens(const SampleBatch& batch, const Launch& launch) {
  LaunchKernel(ChooseKernel, dim3(batch.num_rows), dim3(kSelectThreads), 0, launch, batch);
}

}  // namespace kvs::gpu
