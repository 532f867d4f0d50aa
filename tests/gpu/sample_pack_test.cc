#include "gpu/sample_pack.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "kvserve/float_bits.h"

namespace kvs::gpu {
namespace {

TEST(PackRows, KeepsListsInOrderAndNamesBannedTokensOnce) {
  const TokenCount counts[] = {{TokenId{4}, 2}, {TokenId{9}, 0}};
  const TokenBias bias{TokenId{3}, -1.5f};
  const TokenId banned[] = {TokenId{7}, TokenId{5}, TokenId{7}};
  SampleRow row{};
  row.logits_row = 6;
  row.temperature = 0.5f;
  row.top_k = 1000;
  row.top_p = 1;
  row.min_p = 0.25f;
  row.draw = true;
  row.counts = counts;
  row.num_counts = 2;
  row.biases = &bias;
  row.num_biases = 1;
  row.banned = banned;
  row.num_banned = 3;
  row.num_logprobs = 3;
  const SampleParams params{nullptr, &row, nullptr, 1, 1000};
  std::vector<uint64_t> memory(PackedBytes(1, 6) / 8 + 1);
  auto* const bytes = reinterpret_cast<uint8_t*>(memory.data());
  const PackedBatch batch = PackRows(params, 0, 17, 6, bytes);
  EXPECT_EQ(batch.num_rows, 1u);
  EXPECT_EQ(batch.num_entries, 5u);
  EXPECT_EQ(batch.num_records, 1u);
  EXPECT_FALSE(batch.all_greedy);
  EXPECT_EQ(batch.bytes, batch.entries_offset + 5 * sizeof(PackedEntry));
  EXPECT_EQ(*reinterpret_cast<const uint32_t*>(bytes), 6u);
  const auto& packed = *reinterpret_cast<const PackedRow*>(bytes + batch.rows_offset);
  EXPECT_FLOAT_EQ(packed.factor, 2.88539008f);
  EXPECT_EQ(packed.top_k, 0u);  // all of the vocabulary
  EXPECT_EQ(packed.min_exponent, -2.0f);
  EXPECT_TRUE(packed.truncates());
  EXPECT_FALSE(packed.needs_sums());
  EXPECT_FALSE(batch.needs_histograms);
  EXPECT_EQ(packed.record, 17u);
  const auto* entries = reinterpret_cast<const PackedEntry*>(bytes + batch.entries_offset);
  const uint32_t tokens[] = {3, 5, 7, 4, 9};
  for (uint32_t i = 0; i < 5; ++i) EXPECT_EQ(entries[i].token, tokens[i]) << i;
  EXPECT_EQ(FloatFromBits(entries[0].payload), -1.5f);
  EXPECT_EQ(entries[3].payload, 2u);
}

TEST(PackRows, TakesRowsWhileTheirEntriesFit) {
  const TokenBias biases[4] = {};
  std::vector<SampleRow> rows(5);
  for (uint32_t i = 0; i < 5; ++i) {
    rows[i].draw = true;
    rows[i].biases = biases;
    rows[i].num_biases = i == 3 ? 4 : 1;
    rows[i].num_logprobs = i % 2 == 0 ? 0 : -1;
  }
  const SampleParams params{nullptr, rows.data(), nullptr, 5, 10};
  std::vector<uint64_t> memory(PackedBytes(5, 4) / 8 + 1);
  auto* const bytes = reinterpret_cast<uint8_t*>(memory.data());
  std::vector<uint32_t> sizes;
  uint32_t records = 0;
  for (uint32_t first = 0; first < 5;) {
    const PackedBatch batch = PackRows(params, first, records, 4, bytes);
    sizes.push_back(batch.num_rows);
    records += batch.num_records;
    first += batch.num_rows;
  }
  EXPECT_EQ(sizes, (std::vector<uint32_t>{3, 1, 1}));
  EXPECT_EQ(records, 3u);
}

TEST(PackRows, ARowThatOnlyWantsLogprobsHasNoLists) {
  const TokenBias bias{};
  SampleRow row{};
  row.given = TokenId{3};
  row.biases = &bias;
  row.num_biases = 1;
  const SampleParams params{nullptr, &row, nullptr, 1, 10};
  std::vector<uint64_t> memory(PackedBytes(1, 1) / 8 + 1);
  const PackedBatch batch = PackRows(params, 0, 0, 1, reinterpret_cast<uint8_t*>(memory.data()));
  EXPECT_EQ(batch.num_entries, 0u);
  EXPECT_FALSE(batch.all_greedy);
}

}  // namespace
}  // namespace kvs::gpu
