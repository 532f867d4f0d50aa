// A model without weights for scheduler tests. The "K/V" of a position is a digest of every token
// up to it, made from the digest stored at the position before and the token. It is written to and
// read from blocks through the slice's block table, as a real cache is: a wrong hit, a shared block
// written to or a table out of order gives other tokens than the same prompt alone.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "kvserve/check.h"
#include "kvserve/ids.h"
#include "kvserve/step.h"

namespace kvs {

inline uint64_t MixDigest(uint64_t digest, TokenId token) {
  uint64_t x = (digest ^ token.value) + 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

inline TokenId NextToken(uint64_t digest, uint32_t vocab_size) {
  return TokenId{static_cast<uint32_t>((digest >> 20) % vocab_size)};
}

class FakeModel {
 public:
  // `window` as in SchedulerConfig: every position that a new token sees must lie in a block.
  FakeModel(uint32_t num_blocks, uint32_t block_size, uint32_t vocab_size, uint32_t window = 0)
      : block_size_(block_size),
        vocab_size_(vocab_size),
        window_(window),
        digests_((size_t{num_blocks} + 1) * block_size) {}

  // One token per slice, as Commit wants it. A sampled_row is a slice of the Run before.
  std::vector<TokenId> Run(const StepPlan& plan) {
    std::vector<TokenId> sampled;
    for (const ScheduledSlice& slice : plan.slices) {
      uint32_t position = slice.first_position;
      const uint32_t num_seen = window_ == 0 ? position : std::min(window_ - 1, position);
      for (uint32_t seen = position - num_seen; seen < position; ++seen) At(slice, seen);
      uint64_t digest = position == 0 ? 0 : At(slice, position - 1);
      for (TokenId token : slice.token_ids) {
        const bool is_last = position + 1 == slice.first_position + slice.token_ids.size();
        if (is_last && slice.sampled_row != kNoSampledRow) {
          KVS_CHECK(token == kNoToken);
          token = last_sampled_.at(slice.sampled_row);
        }
        KVS_CHECK(token != kNoToken);
        digest = MixDigest(digest, token);
        At(slice, position++) = digest;
      }
      sampled.push_back(NextToken(digest, vocab_size_));
    }
    last_sampled_ = sampled;
    return sampled;
  }

  // What `num_output` tokens follow `prompt` when it runs alone.
  std::vector<TokenId> Continue(std::span<const TokenId> prompt, size_t num_output) const {
    uint64_t digest = 0;
    for (const TokenId token : prompt) digest = MixDigest(digest, token);
    std::vector<TokenId> output;
    while (output.size() < num_output) {
      output.push_back(NextToken(digest, vocab_size_));
      digest = MixDigest(digest, output.back());
    }
    return output;
  }

 private:
  uint64_t& At(const ScheduledSlice& slice, uint32_t position) {
    const BlockId block = slice.block_table[position / block_size_];
    KVS_CHECK(block != kNullBlock);
    return digests_[SlotOf(block, position % block_size_, block_size_).value];
  }

  const uint32_t block_size_;
  const uint32_t vocab_size_;
  const uint32_t window_;
  std::vector<uint64_t> digests_;  // [num_blocks + 1][block_size]
  std::vector<TokenId> last_sampled_;
};

}  // namespace kvs
