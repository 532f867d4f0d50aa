#include <algorithm>

#include "kernels/kernel_test_util.h"
#include "kvserve/float_bits.h"
#include "reference/naive.h"

namespace kvs {
namespace {

struct Case {
  KvCacheDType dtype = KvCacheDType::kBf16;
  uint32_t head_dim = 64;
  uint32_t num_kv_heads = 2;
  uint32_t group_size = 4;
  uint32_t block_size = 16;
  uint32_t window = 0;
};

// Sequences in one paged cache, every token's Q, K and V decided by its sequence and position, so
// that the same tokens can be run in any chunks.
class Problem {
 public:
  Problem(const Case& c, std::vector<uint32_t> lengths) : case_(c), lengths_(std::move(lengths)) {
    Random random(c.head_dim * 31 + c.group_size);
    uint32_t num_blocks = 1;
    for (uint32_t length : lengths_) {
      max_blocks_ = std::max(max_blocks_, length / c.block_size + 1);
      num_blocks += length / c.block_size + 1;
    }
    layout_ = {1, c.num_kv_heads, c.head_dim, c.block_size, c.dtype};
    std::vector<uint32_t> ids;
    for (uint32_t i = 1; i < num_blocks; ++i) ids.push_back(i);
    std::shuffle(ids.begin(), ids.end(), random.engine());
    tables_.assign(lengths_.size() * max_blocks_, kNullBlock);
    for (size_t seq = 0, next = 0; seq < lengths_.size(); ++seq) {
      for (uint32_t b = 0; b <= lengths_[seq] / c.block_size; ++b) {
        tables_[seq * max_blocks_ + b] = BlockId{ids[next++]};
      }
      tokens_.push_back(random.Normals(size_t{lengths_[seq]} * RowLen()));
    }
    for (uint32_t head = 0; head < c.num_kv_heads; ++head) {
      k_scale_.push_back(0.5f + 0.25f * static_cast<float>(head));
      v_scale_.push_back(0.75f + 0.5f * static_cast<float>(head));
    }
    // Stale codes everywhere, NaN in every dtype: nothing past a sequence's end may be read.
    cache_.assign(num_blocks * layout_.LayerBlockBytes(), 0xff);
    // Position 0: cosine 1, sine 0. Rotation has its own test.
    cos_sin_.assign(c.head_dim, 0.0f);
    std::fill_n(cos_sin_.begin(), c.head_dim / 2, 1.0f);
  }

  uint32_t num_heads() const { return case_.num_kv_heads * case_.group_size; }
  size_t RowLen() const { return size_t{num_heads() + 2 * case_.num_kv_heads} * case_.head_dim; }
  size_t OutLen() const { return size_t{num_heads()} * case_.head_dim; }

  BackendLimits Limits() const {
    uint32_t total = 0;
    for (uint32_t length : lengths_) total += length;
    return {.max_num_seqs = static_cast<uint32_t>(lengths_.size()),
            .max_num_batched_tokens = total,
            .max_num_logits_rows = 1,
            .max_model_len = *std::max_element(lengths_.begin(), lengths_.end()),
            .num_heads = num_heads(),
            .num_kv_heads = case_.num_kv_heads,
            .head_dim = case_.head_dim,
            .hidden_size = 8,
            .intermediate_size = 8,
            .vocab_size = 8};
  }

  // Runs the next `counts[seq]` tokens of each sequence in one step; out[seq] grows by them.
  void Step(Backend& backend, const std::vector<uint32_t>& counts,
            std::vector<std::vector<float>>* outs, std::vector<uint32_t>* done) {
    std::vector<float> qkv;
    std::vector<SlotId> slots;
    std::vector<uint32_t> starts = {0}, seq_lens;
    std::vector<BlockId> tables;
    std::vector<size_t> seqs;
    for (size_t seq = 0; seq < lengths_.size(); ++seq) {
      const uint32_t count = std::min(counts[seq], lengths_[seq] - (*done)[seq]);
      if (count == 0) continue;
      seqs.push_back(seq);
      const uint32_t first = (*done)[seq];
      const auto begin = tokens_[seq].begin() + static_cast<ptrdiff_t>(first * RowLen());
      qkv.insert(qkv.end(), begin, begin + static_cast<ptrdiff_t>(count * RowLen()));
      BlockId* table = &tables_[seq * max_blocks_];
      ReleaseBlocksBefore(first, table);
      for (uint32_t p = first; p < first + count; ++p) {
        slots.push_back(
            SlotOf(table[p / case_.block_size], p % case_.block_size, case_.block_size));
      }
      tables.insert(tables.end(), table, table + max_blocks_);
      starts.push_back(starts.back() + count);
      seq_lens.push_back(first + count);
      (*done)[seq] += count;
    }
    const uint32_t num_tokens = starts.back();
    const std::vector<uint32_t> positions(num_tokens, 0);
    const KvView view{cache_.data(), k_scale_.data(), v_scale_.data(), layout_};
    backend.RopeKvStore({qkv.data(), positions.data(), slots.data(), cos_sin_.data(), view,
                         &num_saturated_, num_tokens, num_heads()});
    std::vector<float> out(num_tokens * OutLen(), -1.0f);
    backend.PagedAttention({qkv.data(), out.data(), view, tables.data(), starts.data(),
                            seq_lens.data(), static_cast<uint32_t>(seqs.size()), num_tokens,
                            num_heads(), max_blocks_, SmScale(), case_.window});
    for (size_t i = 0; i < seqs.size(); ++i) {
      auto& to = (*outs)[seqs[i]];
      to.insert(to.end(), out.begin() + static_cast<ptrdiff_t>(starts[i] * OutLen()),
                out.begin() + static_cast<ptrdiff_t>(starts[i + 1] * OutLen()));
    }
  }

  // All tokens, at most `chunk` of each sequence per step. The cache starts stale each time.
  std::vector<std::vector<float>> RunInChunks(Backend& backend, uint32_t chunk) {
    return RunInChunks(backend, [&](size_t, uint32_t) { return chunk; });
  }
  template <class ChunkOf>
  std::vector<std::vector<float>> RunInChunks(Backend& backend, const ChunkOf& chunk_of) {
    const std::vector<BlockId> whole_tables = tables_;
    std::fill(cache_.begin(), cache_.end(), uint8_t{0xff});
    std::fill_n(cache_.begin(), layout_.LayerBlockBytes(), uint8_t{0});  // the null block
    std::vector<std::vector<float>> outs(lengths_.size());
    std::vector<uint32_t> done(lengths_.size(), 0);
    for (uint32_t step = 0; done != lengths_; ++step) {
      std::vector<uint32_t> counts;
      for (size_t seq = 0; seq < lengths_.size(); ++seq) counts.push_back(chunk_of(seq, step));
      Step(backend, counts, &outs, &done);
    }
    tables_ = whole_tables;
    return outs;
  }

  // Every `stride`-th row of sequence `seq`, and its last, against the reference.
  double Error(const std::string& set, const std::vector<float>& out, size_t seq,
               uint32_t stride) const {
    const uint32_t dim = case_.head_dim;
    std::vector<float> got;
    std::vector<double> want;
    for (uint32_t p = 0; p < lengths_[seq]; ++p) {
      if (p % stride != 0 && p + 1 != lengths_[seq]) continue;
      for (uint32_t head = 0; head < num_heads(); ++head) {
        const uint32_t kv_head = head / case_.group_size;
        std::vector<double> q, keys, values;
        for (uint32_t i = 0; i < dim; ++i) {
          const double value = At(seq, p, head, i);
          q.push_back(Bf16Math(set) ? naive::RoundTo(value, DType::kBf16) : value);
        }
        const uint32_t first = case_.window == 0 || p < case_.window ? 0 : p - case_.window + 1;
        for (uint32_t other = first; other <= p; ++other) {
          for (uint32_t i = 0; i < dim; ++i) {
            keys.push_back(Stored(At(seq, other, num_heads() + kv_head, i), k_scale_[kv_head]));
            values.push_back(Stored(At(seq, other, num_heads() + case_.num_kv_heads + kv_head, i),
                                    v_scale_[kv_head]));
          }
        }
        const auto row = naive::Attention(q, keys, values, p + 1 - first, SmScale());
        want.insert(want.end(), row.begin(), row.end());
        const size_t at = p * OutLen() + size_t{head} * dim;
        got.insert(got.end(), out.begin() + static_cast<ptrdiff_t>(at),
                   out.begin() + static_cast<ptrdiff_t>(at + dim));
      }
    }
    return RelativeError(got, want);
  }

  // Where Q and the probabilities are rounded to bf16. The reference rounds Q too.
  bool Bf16Math(const std::string& set) const {
    return HasBf16Products(set) && (IsFp8(case_.dtype) || case_.dtype == KvCacheDType::kBf16);
  }
  double Tolerance(const std::string& set) const { return Bf16Math(set) ? 1e-2 : 1e-5; }

 private:
  // Blocks that no query from `position` on sees become the null block, and what they held stale.
  void ReleaseBlocksBefore(uint32_t position, BlockId* table) {
    if (case_.window == 0 || position < case_.window) return;
    const uint32_t first_seen = position - case_.window + 1;
    for (uint32_t b = 0; (b + 1) * case_.block_size <= first_seen; ++b) {
      if (table[b] == kNullBlock) continue;
      std::fill_n(cache_.begin() +
                      static_cast<ptrdiff_t>(layout_.KOffset(table[b], 0) * SizeOf(case_.dtype)),
                  layout_.LayerBlockBytes(), uint8_t{0xff});
      table[b] = kNullBlock;
    }
  }
  float SmScale() const { return 1.0f / std::sqrt(static_cast<float>(case_.head_dim)); }
  double At(size_t seq, uint32_t position, uint32_t head, uint32_t i) const {
    return tokens_[seq][position * RowLen() + size_t{head} * case_.head_dim + i];
  }
  double Stored(double value, float scale) const {
    return naive::RoundTo(static_cast<float>(value) / scale, case_.dtype) * scale;
  }

  Case case_;
  std::vector<uint32_t> lengths_;
  KvLayout layout_{};
  uint32_t max_blocks_ = 1;
  std::vector<BlockId> tables_;
  std::vector<std::vector<float>> tokens_;
  std::vector<float> k_scale_, v_scale_, cos_sin_;
  std::vector<uint8_t> cache_;
  uint64_t num_saturated_ = 0;
};

constexpr KvCacheDType kKvDTypes[] = {KvCacheDType::kBf16, KvCacheDType::kF16, KvCacheDType::kF32,
                                      KvCacheDType::kF8E4M3, KvCacheDType::kF8E5M2};

void ExpectMatches(const std::string& set, const Case& c, const std::vector<uint32_t>& lengths,
                   uint32_t stride) {
  Problem problem(c, lengths);
  auto backend = MakeBackend(set, 2);
  ASSERT_TRUE(backend->Reserve(problem.Limits()));
  const auto outs = problem.RunInChunks(*backend, UINT32_MAX);
  for (size_t seq = 0; seq < lengths.size(); ++seq) {
    EXPECT_LT(problem.Error(set, outs[seq], seq, stride), problem.Tolerance(set))
        << set << " " << ToString(c.dtype) << " head_dim=" << c.head_dim
        << " group=" << c.group_size << " block=" << c.block_size << " window=" << c.window
        << " length=" << lengths[seq];
  }
}

TEST(Attention, MatchesReferenceForEveryDtypeAndHeadDim) {
  for (const std::string& set : InstructionSets()) {
    for (const KvCacheDType dtype : kKvDTypes) {
      for (const uint32_t head_dim : {64u, 128u, 256u, 80u, 6u, 320u}) {
        ExpectMatches(set, {.dtype = dtype, .head_dim = head_dim}, {1, 15, 16, 17, 100}, 7);
      }
    }
  }
}

TEST(Attention, MatchesReferenceForEveryGroupAndBlockSize) {
  for (const std::string& set : InstructionSets()) {
    for (const KvCacheDType dtype : {KvCacheDType::kBf16, KvCacheDType::kF8E4M3}) {
      for (const uint32_t group_size : {1u, 2u, 3u, 7u, 8u, 16u}) {
        for (const uint32_t block_size : {16u, 32u, 64u}) {
          ExpectMatches(set, {.dtype = dtype, .group_size = group_size, .block_size = block_size},
                        {block_size - 1, block_size, block_size + 1, 90}, 9);
        }
      }
    }
  }
}

TEST(Attention, MatchesReferenceBeyondOneRange) {
  for (const std::string& set : InstructionSets()) {
    for (const KvCacheDType dtype : kKvDTypes) {
      ExpectMatches(set, {.dtype = dtype, .num_kv_heads = 1, .group_size = 3}, {1100, 513, 300},
                    171);
    }
  }
}

// Runs the same sequences in several ways, on 1 to 3 threads, and expects the same bits.
void ExpectSameBitsHoweverRun(const std::string& set, const Case& c,
                              const std::vector<uint32_t>& lengths) {
  Problem problem(c, lengths);
  auto backend = MakeBackend(set, 1);
  ASSERT_TRUE(backend->Reserve(problem.Limits()));
  const auto whole = problem.RunInChunks(*backend, UINT32_MAX);
  const auto expect_same = [&](const std::vector<std::vector<float>>& outs,
                               const std::string& what) {
    for (size_t seq = 0; seq < lengths.size(); ++seq) {
      ASSERT_EQ(outs[seq].size(), whole[seq].size());
      EXPECT_TRUE(SameBits(outs[seq].data(), whole[seq].data(), outs[seq].size()))
          << set << " " << ToString(c.dtype) << " window " << c.window << " " << what
          << " sequence " << seq;
    }
  };
  for (uint32_t num_threads = 1; num_threads <= 3; ++num_threads) {
    auto other = MakeBackend(set, num_threads);
    ASSERT_TRUE(other->Reserve(problem.Limits()));
    expect_same(problem.RunInChunks(*other, 1u), "token by token");
    Random random(num_threads);
    expect_same(problem.RunInChunks(*other, [&](size_t, uint32_t) { return random.Below(150); }),
                "ragged chunks");
    expect_same(problem.RunInChunks(*other, UINT32_MAX), "whole");
    // One sequence at a time.
    expect_same(problem.RunInChunks(*other,
                                    [&](size_t seq, uint32_t step) {
                                      return step % lengths.size() == seq ? UINT32_MAX : 0;
                                    }),
                "alone");
  }
}

TEST(Attention, RowDoesNotDependOnChunksCompanyNorThreads) {
  for (const std::string& set : InstructionSets()) {
    for (const KvCacheDType dtype : kKvDTypes) {
      ExpectSameBitsHoweverRun(set, {.dtype = dtype, .num_kv_heads = 1, .group_size = 2},
                               {600, 1, 65, 1030});
    }
  }
}

// Windows within a tile, across a range, and at its borders. Blocks that left the window are stale
// and stand as the null block in the table.
TEST(AttentionWindow, MatchesReferenceForEveryDtype) {
  for (const std::string& set : InstructionSets()) {
    for (const KvCacheDType dtype : kKvDTypes) {
      for (const uint32_t window : {1u, 2u, 17u, 64u, 100u, 511u, 512u, 513u, 5000u}) {
        ExpectMatches(set, {.dtype = dtype, .num_kv_heads = 1, .group_size = 3, .window = window},
                      {1100, 513, 300, 1}, 171);
      }
    }
  }
}

TEST(AttentionWindow, RowDoesNotDependOnChunksCompanyNorThreads) {
  for (const std::string& set : InstructionSets()) {
    for (const KvCacheDType dtype :
         {KvCacheDType::kBf16, KvCacheDType::kF32, KvCacheDType::kF8E4M3}) {
      for (const uint32_t window : {5u, 512u, 530u}) {
        const Case c{.dtype = dtype, .num_kv_heads = 1, .group_size = 2, .window = window};
        ExpectSameBitsHoweverRun(set, c, {600, 1, 65, 1150});
      }
    }
  }
}

}  // namespace
}  // namespace kvs
