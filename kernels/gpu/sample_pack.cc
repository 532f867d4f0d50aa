#include "gpu/sample_pack.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kvserve/check.h"

namespace kvs::gpu {
namespace {

constexpr size_t Aligned(size_t bytes) { return (bytes + 7) / 8 * 8; }
constexpr size_t RowsOffset(uint32_t num_rows) { return Aligned(num_rows * sizeof(uint32_t)); }
constexpr size_t EntriesOffset(uint32_t num_rows) {
  return RowsOffset(num_rows) + num_rows * sizeof(PackedRow);
}

// An upper bound: banned tokens may repeat.
uint32_t MaxEntries(const SampleRow& row) {
  return row.draw ? row.num_biases + row.num_banned + row.num_counts : 0;
}

// Of log2(e) / temperature; a temperature next to 0 gives a finite factor, which leaves only the
// largest logits.
float Factor(const SampleRow& row) {
  if (!row.draw || row.temperature == 0) return 0;
  return std::min(1.44269504f / row.temperature, std::numeric_limits<float>::max());
}

// Writes a row's entries to `to`; returns their end.
PackedEntry* PackEntries(const SampleRow& row, PackedRow& packed, PackedEntry* to) {
  for (uint32_t i = 0; i < row.num_biases; ++i) {
    *to++ = {row.biases[i].token.value, FloatBits(row.biases[i].bias)};
  }
  packed.num_biases = row.num_biases;
  PackedEntry* const banned = to;
  for (uint32_t i = 0; i < row.num_banned; ++i) *to++ = {row.banned[i].value, 0};
  const auto less = [](PackedEntry a, PackedEntry b) { return a.token < b.token; };
  const auto same = [](PackedEntry a, PackedEntry b) { return a.token == b.token; };
  std::sort(banned, to, less);
  to = std::unique(banned, to, same);
  packed.num_banned = static_cast<uint32_t>(to - banned);
  for (uint32_t i = 0; i < row.num_counts; ++i) {
    *to++ = {row.counts[i].token.value, row.counts[i].output_count};
  }
  packed.num_counts = row.num_counts;
  return to;
}

PackedRow PackRow(const SampleRow& row, uint32_t vocab_size) {
  PackedRow packed{};
  packed.uniform = row.uniform;
  packed.factor = Factor(row);
  packed.top_p = row.top_p;
  packed.min_exponent =
      row.min_p > 0 ? std::log2(row.min_p) : -std::numeric_limits<float>::infinity();
  const auto top_k = static_cast<uint32_t>(std::max(row.top_k, 0));
  packed.top_k = top_k < vocab_size ? top_k : 0;
  packed.presence_penalty = row.presence_penalty;
  packed.frequency_penalty = row.frequency_penalty;
  packed.repetition_penalty = row.repetition_penalty;
  packed.given = row.given.value;
  packed.draw = row.draw ? 1 : 0;
  packed.num_logprobs =
      static_cast<uint32_t>(std::clamp(row.num_logprobs, 0, static_cast<int32_t>(kMaxLogprobs)));
  packed.record = kNoRecord;
  return packed;
}

}  // namespace

size_t PackedBytes(uint32_t num_rows, uint32_t num_entries) {
  return EntriesOffset(num_rows) + num_entries * sizeof(PackedEntry);
}

PackedBatch PackRows(const SampleParams& params, uint32_t first, uint32_t first_record,
                     uint32_t max_entries, uint8_t* to) {
  PackedBatch batch;
  uint64_t num_entries = 0;
  for (uint32_t row = first; row < params.num_rows; ++row, ++batch.num_rows) {
    num_entries += MaxEntries(params.rows[row]);
    if (num_entries > max_entries) break;
  }
  KVS_CHECK_OP(batch.num_rows, >, 0u);
  batch.rows_offset = RowsOffset(batch.num_rows);
  batch.entries_offset = EntriesOffset(batch.num_rows);
  auto* const logits_rows = reinterpret_cast<uint32_t*>(to);
  auto* const rows = reinterpret_cast<PackedRow*>(to + batch.rows_offset);
  auto* const entries = reinterpret_cast<PackedEntry*>(to + batch.entries_offset);
  PackedEntry* end = entries;
  for (uint32_t i = 0; i < batch.num_rows; ++i) {
    const SampleRow& row = params.rows[first + i];
    logits_rows[i] = row.logits_row;
    rows[i] = PackRow(row, params.vocab_size);
    rows[i].first_entry = static_cast<uint32_t>(end - entries);
    if (row.draw) end = PackEntries(row, rows[i], end);
    if (row.num_logprobs >= 0) rows[i].record = first_record + batch.num_records++;
    batch.needs_histograms = batch.needs_histograms || rows[i].needs_histogram();
    batch.all_greedy = batch.all_greedy && row.draw && row.temperature == 0;
  }
  batch.num_entries = static_cast<uint32_t>(end - entries);
  batch.all_greedy = batch.all_greedy && batch.num_entries == 0;
  batch.bytes = PackedBytes(batch.num_rows, batch.num_entries);
  return batch;
}

}  // namespace kvs::gpu
