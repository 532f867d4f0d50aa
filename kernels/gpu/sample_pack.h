// SampleRows as one run of bytes that the device can read: [row of logits][PackedRow][PackedEntry],
// each as many as there are.
#pragma once

#include <cstddef>
#include <cstdint>

#include "gpu/sample_batch.h"
#include "kvserve/kernel_params.h"

namespace kvs::gpu {

struct PackedBatch {
  uint32_t num_rows = 0;
  uint32_t num_entries = 0;
  uint32_t num_records = 0;
  bool all_greedy = true;  // every row draws the largest of its raw logits
  bool needs_histograms = false;
  size_t rows_offset = 0;
  size_t entries_offset = 0;
  size_t bytes = 0;
};

// What `num_rows` rows and `num_entries` entries take.
size_t PackedBytes(uint32_t num_rows, uint32_t num_entries);

// Packs rows of `params` from `first` on, as many as have max_entries entries together, at least
// one. `to` has PackedBytes(rows left, max_entries), aligned to 8 bytes. Records are numbered from
// `first_record` on, in the order of rows.
PackedBatch PackRows(const SampleParams& params, uint32_t first, uint32_t first_record,
                     uint32_t max_entries, uint8_t* to);

}  // namespace kvs::gpu
