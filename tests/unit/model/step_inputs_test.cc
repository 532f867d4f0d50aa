#include "model/step_inputs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "support/host_backend.h"

namespace kvs {
namespace {

using ::testing::ElementsAre;

constexpr StepLimits kLimits = {.max_num_seqs = 3,
                                .max_num_batched_tokens = 8,
                                .max_model_len = 64,
                                .max_num_logits_rows = 4,
                                .block_size = 4};

class StepInputsTest : public ::testing::Test {
 protected:
  StepInputsTest()
      : backend_(*MakeCpuBackend({.num_threads = 1})),
        inputs_(*StepInputs::Make(kLimits, {.vocab_size = 100, .num_blocks = 20}, *backend_)) {}

  template <class T>
  std::vector<uint32_t> Read(const T* device, size_t count) {
    std::vector<uint32_t> host(count);
    backend_->CopyToHost(host.data(), device, count * sizeof(uint32_t));
    return host;
  }

  std::unique_ptr<Backend> backend_;
  StepInputs inputs_;
};

TEST_F(StepInputsTest, FlattensAMixedPlan) {
  const std::vector<TokenId> prompt = {{10}, {11}, {12}, {13}, {14}};
  const std::vector<TokenId> next = {{99}};
  const std::vector<BlockId> long_table = {{7}, {3}, {20}};
  const std::vector<BlockId> short_table = {{9}, {5}};  // longer than needed yet
  StepPlan plan;
  plan.slices = {{prompt, 3, short_table, 2}, {next, 8, long_table, 1}};
  plan.num_tokens = 6;
  plan.num_logits_rows = 3;
  inputs_.Fill(plan, *backend_);
  EXPECT_EQ(inputs_.num_seqs(), 2u);
  EXPECT_EQ(inputs_.num_tokens(), 6u);
  EXPECT_EQ(inputs_.num_logits_rows(), 3u);
  EXPECT_EQ(inputs_.max_blocks_per_seq(), 3u);
  EXPECT_THAT(Read(inputs_.token_ids(), 6), ElementsAre(10, 11, 12, 13, 14, 99));
  EXPECT_THAT(Read(inputs_.positions(), 6), ElementsAre(3, 4, 5, 6, 7, 8));
  EXPECT_THAT(Read(inputs_.slot_mapping(), 6), ElementsAre(39, 20, 21, 22, 23, 80));
  EXPECT_THAT(Read(inputs_.query_start_loc(), 3), ElementsAre(0, 5, 6));
  EXPECT_THAT(Read(inputs_.seq_lens(), 2), ElementsAre(8, 9));
  EXPECT_THAT(Read(inputs_.logits_rows(), 3), ElementsAre(3, 4, 5));
  EXPECT_THAT(Read(inputs_.block_tables(), 6), ElementsAre(9, 5, 0, 7, 3, 20));
  EXPECT_EQ(reinterpret_cast<uintptr_t>(inputs_.block_tables()) % 64, 0u);
}

TEST_F(StepInputsTest, HoldsTheLargestPlan) {
  const std::vector<TokenId> tokens(8, TokenId{99});
  const std::vector<BlockId> table(16, BlockId{20});
  StepPlan plan;
  const std::span<const TokenId> all(tokens);
  plan.slices = {
      {all.first(6), 58, table, 2}, {all.first(1), 63, table, 1}, {all.first(1), 63, table, 1}};
  plan.num_tokens = 8;
  plan.num_logits_rows = 4;
  inputs_.Fill(plan, *backend_);
  EXPECT_EQ(Read(inputs_.block_tables(), 48), std::vector<uint32_t>(48, 20));
}

// A plan of one slice, right unless a test changes it.
struct OneSlice {
  std::vector<TokenId> tokens = {{1}, {2}, {3}};
  std::vector<BlockId> table = {{1}, {2}};
  uint32_t first_position = 4;
  uint32_t num_rows = 1;

  StepPlan Plan() const {
    StepPlan plan;
    plan.slices = {{tokens, first_position, table, num_rows}};
    plan.num_tokens = static_cast<uint32_t>(tokens.size());
    plan.num_logits_rows = num_rows;
    return plan;
  }
};

std::vector<uint32_t> Words(const void* data, size_t count) {
  const auto* words = static_cast<const uint32_t*>(data);
  return {words, words + count};
}

// A row of block_tables, without the null blocks behind it.
std::vector<uint32_t> Table(const StepInputs& inputs, uint32_t seq) {
  const uint32_t length = inputs.max_blocks_per_seq();
  std::vector<uint32_t> row = Words(inputs.block_tables() + size_t{seq} * length, length);
  while (!row.empty() && row.back() == 0) row.pop_back();
  return row;
}

// Two sequences of one token each, at positions 4 and 17 of blocks of 4.
struct TwoDecodes {
  std::vector<TokenId> first = {{11}};
  std::vector<TokenId> second = {{12}};
  std::vector<BlockId> short_table = {{6}, {7}};
  std::vector<BlockId> long_table = {{1}, {2}, {3}, {4}, {5}};

  StepPlan Plan() const {
    StepPlan plan;
    plan.slices = {{first, 4, short_table, 1}, {second, 17, long_table, 1}};
    plan.num_tokens = 2;
    plan.num_logits_rows = 2;
    return plan;
  }
};

StepInputs InputsFor(uint32_t max_num_seqs, test::HostBackend& backend) {
  StepLimits limits = kLimits;
  limits.max_num_seqs = limits.max_num_logits_rows = max_num_seqs;
  return *StepInputs::Make(limits, {.vocab_size = 100, .num_blocks = 20}, backend);
}

TEST(StepInputsOnADevice, PadsDecodeStepsWithTokensThatSeeThemselvesInTheNullBlock) {
  test::HostBackend backend;
  backend.pad_to = 4;
  StepInputs inputs = InputsFor(4, backend);
  const TwoDecodes decodes;
  inputs.Fill(decodes.Plan(), backend);
  EXPECT_EQ(inputs.num_seqs(), 4u);
  EXPECT_EQ(inputs.num_tokens(), 4u);
  EXPECT_EQ(inputs.num_logits_rows(), 4u);
  ASSERT_EQ(inputs.max_blocks_per_seq(), 16u);  // 5 are needed; as many as a sequence may have
  EXPECT_THAT(Words(inputs.token_ids(), 4), ElementsAre(11, 12, 0, 0));
  EXPECT_THAT(Words(inputs.positions(), 4), ElementsAre(4, 17, 0, 0));
  EXPECT_THAT(Words(inputs.slot_mapping(), 4), ElementsAre(28, 21, 0, 0));
  EXPECT_THAT(Words(inputs.logits_rows(), 4), ElementsAre(0, 1, 0, 0));
  EXPECT_THAT(Words(inputs.query_start_loc(), 5), ElementsAre(0, 1, 2, 3, 4));
  EXPECT_THAT(Words(inputs.seq_lens(), 4), ElementsAre(5, 18, 1, 1));
  EXPECT_EQ(Table(inputs, 0), (std::vector<uint32_t>{6, 7}));
  EXPECT_EQ(Table(inputs, 1), (std::vector<uint32_t>{1, 2, 3, 4, 5}));
  EXPECT_EQ(Table(inputs, 2), std::vector<uint32_t>());
  EXPECT_EQ(Table(inputs, 3), std::vector<uint32_t>());
  EXPECT_EQ(inputs.sampled_rows(), nullptr);

  // The same shape has the same key and places, however long the contexts; another has another key.
  const uint64_t key = inputs.record_key();
  const TokenId* token_ids = inputs.token_ids();
  EXPECT_NE(key, 0u);
  StepPlan plan = decodes.Plan();
  plan.slices.pop_back();
  plan.num_tokens = plan.num_logits_rows = 1;
  inputs.Fill(plan, backend);
  EXPECT_EQ(inputs.record_key(), key);
  EXPECT_EQ(inputs.token_ids(), token_ids);
  backend.pad_to = 2;
  inputs.Fill(plan, backend);
  EXPECT_NE(inputs.record_key(), key);
  EXPECT_NE(inputs.record_key(), 0u);

  // A chunk of a prompt is no decode step, and is not padded.
  const std::vector<TokenId> chunk = {{1}, {2}, {3}};
  plan.slices = {{chunk, 0, decodes.long_table, 0}};
  plan.num_tokens = 3;
  plan.num_logits_rows = 0;
  inputs.Fill(plan, backend);
  EXPECT_EQ(inputs.record_key(), 0u);
  EXPECT_EQ(inputs.num_seqs(), 1u);
  EXPECT_EQ(inputs.num_tokens(), 3u);
}

TEST(StepInputsOnADevice, LargeTablesHaveRowsOfFewLengths) {
  test::HostBackend backend;
  backend.pad_to = 4;
  StepLimits limits = kLimits;
  limits.max_num_seqs = limits.max_num_logits_rows = 4;
  limits.max_model_len = 40000;
  auto inputs = *StepInputs::Make(limits, {.vocab_size = 100, .num_blocks = 20}, backend);
  const std::vector<BlockId> table(10000, BlockId{3});
  const TwoDecodes decodes;
  for (const auto& [position, length] : {std::pair{0u, 4096u},
                                         {16383u, 4096u},
                                         {16384u, 8192u},
                                         {32767u, 8192u},
                                         {32768u, 10000u},
                                         {39999u, 10000u}}) {
    StepPlan plan;
    plan.slices = {{decodes.first, position, table, 1}};
    plan.num_tokens = plan.num_logits_rows = 1;
    inputs.Fill(plan, backend);
    EXPECT_EQ(inputs.max_blocks_per_seq(), length) << position;
    EXPECT_EQ(Table(inputs, 0), std::vector<uint32_t>(position / 4 + 1, 3)) << position;
  }
}

TEST(StepInputsOnADevice, RopeMayBeFusedWhereNoTokenAttendsToAnotherNewOne) {
  test::HostBackend backend;
  backend.pad_to = 2;
  backend.few_tokens = 2;
  StepInputs inputs = InputsFor(8, backend);
  const TwoDecodes decodes;
  const std::vector<TokenId> two = {{21}, {22}};
  StepPlan few;
  few.slices = {{two, 7, decodes.long_table, 1}};
  few.num_tokens = 2;
  few.num_logits_rows = 1;
  inputs.Fill(decodes.Plan(), backend);
  const uint64_t plain_key = inputs.record_key();
  EXPECT_FALSE(inputs.may_fuse_rope());
  inputs.Fill(few, backend);
  EXPECT_EQ(inputs.record_key(), plain_key);

  backend.fuses_rope = true;
  inputs.Fill(few, backend);
  EXPECT_FALSE(inputs.may_fuse_rope());
  EXPECT_EQ(inputs.record_key(), plain_key);
  inputs.Fill(decodes.Plan(), backend);
  EXPECT_TRUE(inputs.may_fuse_rope());
  EXPECT_NE(inputs.record_key(), plain_key);
}

TEST(StepInputsOnADevice, FewTokensOfASequenceStandAsSequencesOfTheirOwn) {
  test::HostBackend backend;
  backend.pad_to = 4;
  backend.few_tokens = 3;
  StepInputs inputs = InputsFor(8, backend);
  const TwoDecodes decodes;
  const std::vector<TokenId> rest = {{21}, {22}, {23}};
  StepPlan plan;
  plan.slices = {{rest, 7, decodes.long_table, 1}, {decodes.first, 4, decodes.short_table, 1}};
  plan.num_tokens = 4;
  plan.num_logits_rows = 2;
  inputs.Fill(plan, backend);
  EXPECT_NE(inputs.record_key(), 0u);
  ASSERT_EQ(inputs.num_seqs(), 4u);
  ASSERT_EQ(inputs.num_tokens(), 4u);
  ASSERT_EQ(inputs.num_logits_rows(), 4u);
  EXPECT_THAT(Words(inputs.token_ids(), 4), ElementsAre(21, 22, 23, 11));
  EXPECT_THAT(Words(inputs.positions(), 4), ElementsAre(7, 8, 9, 4));
  EXPECT_THAT(Words(inputs.slot_mapping(), 4), ElementsAre(11, 12, 13, 28));
  EXPECT_THAT(Words(inputs.logits_rows(), 4), ElementsAre(2, 3, 0, 0));  // those asked for first
  EXPECT_THAT(Words(inputs.query_start_loc(), 5), ElementsAre(0, 1, 2, 3, 4));
  EXPECT_THAT(Words(inputs.seq_lens(), 4), ElementsAre(8, 9, 10, 5));
  EXPECT_EQ(Table(inputs, 0), (std::vector<uint32_t>{1, 2}));
  EXPECT_EQ(Table(inputs, 1), (std::vector<uint32_t>{1, 2, 3}));
  EXPECT_EQ(Table(inputs, 2), (std::vector<uint32_t>{1, 2, 3}));
  EXPECT_EQ(Table(inputs, 3), (std::vector<uint32_t>{6, 7}));

  // One token more than few, more tokens than there may be sequences, or no logits.
  backend.few_tokens = 2;
  inputs.Fill(plan, backend);
  EXPECT_EQ(inputs.record_key(), 0u);
  EXPECT_EQ(inputs.num_seqs(), 2u);
  EXPECT_EQ(inputs.num_logits_rows(), 2u);
  backend.few_tokens = 3;
  StepInputs fewer = InputsFor(3, backend);
  fewer.Fill(plan, backend);
  EXPECT_EQ(fewer.num_seqs(), 2u);
  plan.slices = {{rest, 7, decodes.long_table, 0}};
  plan.num_tokens = 3;
  plan.num_logits_rows = 0;
  inputs.Fill(plan, backend);
  EXPECT_EQ(inputs.record_key(), 0u);
  EXPECT_EQ(inputs.num_logits_rows(), 0u);
}

TEST(StepInputsOnADevice, TellsWhichTokensTheDeviceHas) {
  test::HostBackend backend;
  backend.keeps_sampled = true;
  backend.pad_to = 3;
  auto inputs = *StepInputs::Make(kLimits, {.vocab_size = 100, .num_blocks = 20}, backend);
  TwoDecodes decodes;
  decodes.second = {kNoToken};
  StepPlan plan = decodes.Plan();
  plan.slices[1].sampled_row = 3;
  inputs.Fill(plan, backend);
  EXPECT_THAT(Words(inputs.sampled_rows(), 3), ElementsAre(kNoSampledRow, 3, kNoSampledRow));
  EXPECT_EQ(inputs.token_ids()[0], TokenId{11});
  ASSERT_DEATH(
      {
        plan.slices[1].sampled_row = 4;  // beyond any row of logits
        inputs.Fill(plan, backend);
      },
      "sampled_row");
  ASSERT_DEATH(
      {
        plan.slices[1].sampled_row = kNoSampledRow;  // then the token must be known
        inputs.Fill(plan, backend);
      },
      "vocab_size");
}

using StepInputsDeathTest = StepInputsTest;

TEST_F(StepInputsDeathTest, APlanThatBreaksALimitAborts) {
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  OneSlice right;
  inputs_.Fill(right.Plan(), *backend_);

  EXPECT_DEATH(inputs_.Fill(StepPlan{}, *backend_), "slices");
  OneSlice wrong;
  wrong.tokens.clear();
  wrong.num_rows = 0;
  EXPECT_DEATH(inputs_.Fill(wrong.Plan(), *backend_), "empty");
  wrong = {};
  wrong.tokens[1] = TokenId{100};
  EXPECT_DEATH(inputs_.Fill(wrong.Plan(), *backend_), "vocab_size");
  wrong = {};
  wrong.table[1] = kNullBlock;
  EXPECT_DEATH(inputs_.Fill(wrong.Plan(), *backend_), "kNullBlock");
  wrong = {};
  wrong.table[0] = BlockId{21};
  EXPECT_DEATH(inputs_.Fill(wrong.Plan(), *backend_), "num_blocks");
  wrong = {};
  wrong.table.pop_back();
  EXPECT_DEATH(inputs_.Fill(wrong.Plan(), *backend_), "block_table");
  wrong = {};
  wrong.first_position = 62;
  EXPECT_DEATH(inputs_.Fill(wrong.Plan(), *backend_), "max_model_len");
  wrong = {};
  wrong.num_rows = 4;
  EXPECT_DEATH(inputs_.Fill(wrong.Plan(), *backend_), "num_logits_rows");
  StepPlan miscounted = right.Plan();
  ++miscounted.num_tokens;
  EXPECT_DEATH(inputs_.Fill(miscounted, *backend_), "num_tokens");
  miscounted.num_tokens = 9;
  EXPECT_DEATH(inputs_.Fill(miscounted, *backend_), "max_num_batched_tokens");
}

}  // namespace
}  // namespace kvs
