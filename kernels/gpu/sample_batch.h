// What the sampling kernels share: rows as they stand in device memory, and the launchers of each
// step. SampleOp (sample.h) fills a batch and calls the launchers in order.
#pragma once

#include <cstdint>

#include "gpu/launch.h"
#include "kvserve/kernel_params.h"

namespace kvs::gpu {

inline constexpr uint32_t kSampleChunk = 1024;  // neighbouring logits that one warp reads at a time
inline constexpr uint32_t kMaxVocabBits = 20;
inline constexpr uint32_t kMaxVocab = 1u << kMaxVocabBits;
inline constexpr uint32_t kNoRecord = UINT32_MAX;

// Of the histograms by which candidates are selected: the values of one digit of their keys.
inline constexpr uint32_t kDigitBits = 10;
inline constexpr uint32_t kBins = 1u << kDigitBits;

constexpr uint32_t NumChunks(uint32_t vocab_size) {
  return (vocab_size + kSampleChunk - 1) / kSampleChunk;
}

// One token of a row's lists. `payload`: a bias (float bits), a count, or nothing for a banned
// token; once the logits have been adjusted, the bits of the logit before.
struct PackedEntry {
  uint32_t token;
  uint32_t payload;
};

// A SampleRow without pointers. Its entries are biases, banned tokens and counts, in this order.
struct PackedRow {
  double uniform;
  float factor;        // log2(e) / temperature; 0 = greedy
  float top_p;         // >= 1: off
  float min_exponent;  // log2(min_p); -infinity = off
  uint32_t top_k;      // 0 = off
  float presence_penalty;
  float frequency_penalty;
  float repetition_penalty;
  uint32_t first_entry;
  uint32_t num_biases;
  uint32_t num_banned;
  uint32_t num_counts;
  uint32_t given;  // the token of a row that draws none
  uint32_t draw;   // 0 or 1
  uint32_t num_logprobs;
  uint32_t record;  // index of its LogprobRecord; kNoRecord = none wanted

  constexpr bool truncates() const {
    return top_k > 0 || top_p < 1.0f || min_exponent > -__builtin_inff();
  }
  // Sums over the whole row serve draws that depend on all of it.
  constexpr bool needs_sums() const {
    return factor > 0 && top_k == 0 && !(min_exponent > -__builtin_inff());
  }
  // Truncated by top_p alone: next to nothing is known of how many candidates there are.
  constexpr bool needs_histogram() const { return needs_sums() && top_p < 1.0f; }
};

// The largest logit of a chunk with its token (sample_scan.cuh, MaxKey), and the sum of
// exp2((logit - largest) * factor) where the row needs sums.
struct ChunkState {
  uint64_t max_key;
  float sum;
};

// Number and weight of a row's candidates by the first digit of their keys (sample_select.cuh).
struct RowHistogram {
  uint64_t weights[kBins];
  uint32_t counts[kBins];
};

struct LogprobRecord {
  float logprob;
  uint32_t rank;
  TokenId top_ids[kMaxLogprobs];
  float top_logprobs[kMaxLogprobs];
};

// Pointers are to device memory.
struct SampleBatch {
  float* logits;                // [*, vocab_size]
  const uint32_t* logits_rows;  // [num_rows] row of logits
  const PackedRow* rows;        // [num_rows]
  PackedEntry* entries;
  ChunkState* chunks;        // [num_rows][NumChunks(vocab_size)]
  RowHistogram* histograms;  // [num_rows], zero between calls
  uint32_t* broken;          // [num_rows] by AdjustLogits: 1 = a listed logit is NaN or +infinity
  TokenId* token_ids;        // [num_rows]
  LogprobRecord* logprobs;   // by PackedRow::record; those of a row without a token stay undefined
  uint32_t num_rows;
  uint32_t vocab_size;
  bool has_entries;
};

// Applies biases, bans and penalties in place, keeping what stood there in the entries.
void AdjustLogits(const SampleBatch& batch, const Launch& launch);
// Undoes AdjustLogits.
void RestoreLogits(const SampleBatch& batch, const Launch& launch);
// Fills chunks.
void ScanLogits(const SampleBatch& batch, const Launch& launch);
// Fills histograms of the rows that need one, from chunks and logits.
void CountCandidates(const SampleBatch& batch, const Launch& launch);
// From chunks, histograms and logits to token_ids. Clears histograms.
void ChooseTokens(const SampleBatch& batch, const Launch& launch);
// Fills logprobs of token_ids from the raw logits.
void FillLogprobs(const SampleBatch& batch, const Launch& launch);

// The token of the largest logit of each row, the lowest among equals; kNoToken for a row with NaN
// or +infinity, or with -infinity alone. Device memory; may be captured into a graph.
struct ArgmaxParams {
  const float* logits;          // [*, vocab_size]
  const uint32_t* logits_rows;  // [num_rows] row of logits, or null: row i is row i
  TokenId* token_ids;           // [num_rows]
  uint64_t* partial_keys;       // [num_rows][NumChunks(vocab_size)], scratch
  uint32_t* arrivals;           // [num_rows], zero between launches
  uint32_t num_rows;
  uint32_t vocab_size;
};
void Argmax(const ArgmaxParams& params, const Launch& launch);

}  // namespace kvs::gpu
