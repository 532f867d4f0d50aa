// What a block of kSelectThreads knows of its row once the chunks have been scanned.
#pragma once

#include "gpu/sample_select.cuh"

namespace kvs::gpu {

static_assert(kMaxVocab / kSampleChunk <= kSelectThreads, "a thread holds one chunk's state");

struct RowState {
  const float* row;
  uint32_t vocab_size;
  uint64_t max_key;
  float max;
  ChunkState chunk;  // of this thread; max_key 0 past the row's end
};

KVS_DEVICE RowState LoadRowState(const SampleBatch& batch, uint32_t index,
                                 BlockScratch<uint64_t>& scratch) {
  const uint32_t num_chunks = NumChunks(batch.vocab_size);
  RowState state;
  state.row = batch.logits + size_t{batch.logits_rows[index]} * batch.vocab_size;
  state.vocab_size = batch.vocab_size;
  state.chunk = {0, 0.0f};
  if (threadIdx.x < num_chunks) {
    state.chunk = batch.chunks[size_t{index} * num_chunks + threadIdx.x];
  }
  state.max_key = BlockReduce(state.chunk.max_key, uint64_t{0}, Larger, scratch);
  state.max = MaxValue(state.max_key);
  return state;
}

// The weight of this thread's chunk relative to the row's largest logit, where the row needs sums.
KVS_DEVICE uint64_t ChunkWeight(const RowState& state, float factor) {
  if (state.chunk.sum == 0.0f) return 0;
  const float exponent = (MaxValue(state.chunk.max_key) - state.max) * factor;
  return FixedPoint(state.chunk.sum * exp2f(exponent));
}

KVS_DEVICE uint64_t RowWeight(const RowState& state, float factor,
                              BlockScratch<uint64_t>& scratch) {
  uint64_t total;
  BlockInclusiveSum(ChunkWeight(state, factor), &total, scratch);
  return total;
}

// The least exponent of a candidate of a row that top_p alone truncates. Those of a probability
// below (1 - top_p) / n have together less than 1 - top_p: the others reach top_p. The slack is for
// the rounding of both; it costs a few more candidates.
KVS_DEVICE float TopPMinExponent(const PackedRow& packed, uint32_t vocab_size,
                                 uint64_t row_weight) {
  const float tail = (1.0f - packed.top_p) / static_cast<float>(vocab_size);
  const float weight = static_cast<float>(row_weight) * 0x1p-40f;
  return fmaxf(kLowestExponent, log2f(tail * weight) - 0.02f);
}

}  // namespace kvs::gpu
