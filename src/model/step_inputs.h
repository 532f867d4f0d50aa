// A StepPlan as the flat arrays that kernels read, in device memory taken once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kvserve/backend.h"
#include "kvserve/ids.h"
#include "kvserve/status.h"
#include "kvserve/step.h"

namespace kvs {

class StepInputs {
 public:
  // What ids in a plan must stay below; a larger one is a bug. The null block may stand only where
  // no query sees it.
  struct IdLimits {
    uint32_t vocab_size;
    uint32_t num_blocks;  // usable ones: ids [1, num_blocks]
    uint32_t window = 0;  // ModelConfig::Window
  };

  static Result<StepInputs> Make(const StepLimits& limits, const IdLimits& ids, Backend& backend);

  // Checks the plan against the limits, flattens it and uploads it. The pointers below then belong
  // to this plan until the next call.
  void Fill(const StepPlan& plan, Backend& backend);

  // A step in which every sequence has few tokens (Backend::FewTokens) has each token here as a
  // sequence of its own, and as many of them as Backend::PaddedBatch says: the ones too many are
  // token 0 in the null block, which see themselves alone. It has as many rows of logits, if any;
  // those that the plan asks for come first.
  uint32_t num_seqs() const { return num_seqs_; }
  uint32_t num_tokens() const { return num_tokens_; }
  uint32_t num_logits_rows() const { return num_logits_rows_; }
  // Row length of block_tables: the longest table of this step, or more.
  uint32_t max_blocks_per_seq() const { return max_blocks_per_seq_; }
  // Whether PagedAttentionParams::rope may be given: Backend::FusesRope, and each token is its
  // sequence's only new one.
  bool may_fuse_rope() const { return may_fuse_rope_; }
  // Equal for steps whose counts and pointers here are equal, so that their launches are too; 0 for
  // a step that is no such step of single tokens, or has no logits.
  uint64_t record_key() const {
    const bool has_key = has_single_tokens_ && num_logits_rows_ > 0;
    if (!has_key) return 0;
    return uint64_t{num_seqs_} << 32 | uint64_t{may_fuse_rope_} << 31 | max_blocks_per_seq_;
  }

  const TokenId* token_ids() const { return Device<TokenId>(token_ids_); }  // [num_tokens]
  // [num_tokens] EmbedParams::sampled_rows; null where the device keeps no sampled tokens.
  const uint32_t* sampled_rows() const {
    return keeps_sampled_ ? Device<uint32_t>(sampled_rows_) : nullptr;
  }
  const uint32_t* positions() const { return Device<uint32_t>(positions_); }    // [num_tokens]
  const SlotId* slot_mapping() const { return Device<SlotId>(slot_mapping_); }  // [num_tokens]
  // [num_seqs + 1] prefix sums of new tokens.
  const uint32_t* query_start_loc() const { return Device<uint32_t>(query_start_loc_); }
  // [num_seqs] positions to attend to, new ones included.
  const uint32_t* seq_lens() const { return Device<uint32_t>(seq_lens_); }
  // [num_logits_rows] rows of the batch whose logits are wanted.
  const uint32_t* logits_rows() const { return Device<uint32_t>(logits_rows_); }
  // [num_seqs, max_blocks_per_seq], padded with the null block, which may also stand before the
  // window.
  const BlockId* block_tables() const { return Device<BlockId>(block_tables_); }

 private:
  StepInputs(const StepLimits& limits, const IdLimits& ids) : limits_(limits), ids_(ids) {}
  void CheckPlan(const StepPlan& plan) const;
  void CheckSlice(const ScheduledSlice& slice) const;
  // Blocks that lie before what a query at `position` sees.
  uint32_t NumBlocksBefore(uint32_t position) const;
  // Places an array of `count` words after those placed before, at a multiple of 64 bytes.
  std::span<uint32_t> Place(size_t count, size_t* offset);
  void ChooseShape(const StepPlan& plan, const Backend& backend);
  void FillTokens(const StepPlan& plan);
  void FillSequences(const StepPlan& plan);
  void FillTable(std::span<const BlockId> blocks, uint32_t num_positions,
                 std::span<uint32_t> table) const;

  template <class T>
  const T* Device(size_t offset) const {
    return device_.as<T>() + offset;
  }

  StepLimits limits_;
  IdLimits ids_;
  bool keeps_sampled_ = false;
  std::vector<uint32_t> host_;  // all arrays behind one another, so that one copy uploads them
  DeviceBuffer device_;
  size_t words_used_ = 0;

  bool has_single_tokens_ = false;
  bool may_fuse_rope_ = false;
  uint32_t num_seqs_ = 0;
  uint32_t num_tokens_ = 0;
  uint32_t num_logits_rows_ = 0;
  uint32_t max_blocks_per_seq_ = 0;
  // Offsets in words.
  size_t token_ids_ = 0;
  size_t sampled_rows_ = 0;
  size_t positions_ = 0;
  size_t slot_mapping_ = 0;
  size_t query_start_loc_ = 0;
  size_t seq_lens_ = 0;
  size_t logits_rows_ = 0;
  size_t block_tables_ = 0;
};

}  // namespace kvs
