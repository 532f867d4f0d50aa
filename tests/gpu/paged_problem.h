// A paged cache with sequences in shuffled blocks, filled on the host, and what attention over it
// gives in float64: shared by the tests of the attention kernels.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "gpu/gpu_test_util.h"
#include "gpu/paged_prefill.h"
#include "kvserve/backend.h"
#include "kvserve/kernel_params.h"
#include "kvserve/kv_layout.h"
#include "reference/naive.h"

namespace kvs::gpu {

struct PagedCase {
  KvCacheDType dtype = KvCacheDType::kBf16;
  DType act = DType::kBf16;
  uint32_t head_dim = 128;
  uint32_t num_kv_heads = 2;
  uint32_t group = 4;
  uint32_t block_size = 16;
  uint32_t window = 0;
};

inline std::string Describe(const PagedCase& c) {
  return std::string(ToString(c.dtype)) + " " + std::string(ToString(c.act)) + " head_dim " +
         std::to_string(c.head_dim) + " group " + std::to_string(c.group) + " block " +
         std::to_string(c.block_size) + " window " + std::to_string(c.window);
}

struct PagedSeq {
  uint32_t seq_len;
  uint32_t query_len;       // the last ones
  bool is_padding = false;  // in the null block
};

class PagedProblem {
 public:
  PagedProblem(const PagedCase& c, std::vector<PagedSeq> seqs, uint64_t seed)
      : case_(c),
        seqs_(std::move(seqs)),
        random_(seed),
        layout_{1, c.num_kv_heads, c.head_dim, c.block_size, c.dtype},
        host_tables_(MakeTables()),
        host_cache_(num_blocks_ * layout_.LayerBlockBytes(), 0xff),
        keys_(FillPlane(&KvLayout::KOffset)),
        values_(FillPlane(&KvLayout::VOffset)),
        k_scales_(c.num_kv_heads),
        v_scales_(c.num_kv_heads) {
    for (uint32_t head = 0; head < c.num_kv_heads; ++head) {
      k_scales_[head] = 0.5f + 0.25f * static_cast<float>(head);
      v_scales_[head] = 0.75f + 0.5f * static_cast<float>(head);
    }
    starts_.push_back(0);
    for (const PagedSeq& seq : seqs_) {
      starts_.push_back(starts_.back() + seq.query_len);
      seq_lens_.push_back(seq.seq_len);
    }
    host_qkv_ = Encode16(random_.Normals(size_t{num_tokens()} * RowLen(), 1.5f), c.act);
    Upload();
  }

  uint32_t num_heads() const { return case_.num_kv_heads * case_.group; }
  uint32_t num_tokens() const { return starts_.back(); }
  size_t RowLen() const { return size_t{num_heads() + 2 * case_.num_kv_heads} * case_.head_dim; }
  size_t OutLen() const { return size_t{num_heads()} * case_.head_dim; }

  PagedAttentionParams Params() const {
    PagedAttentionParams params{};
    params.qkv = qkv_->data();
    params.out = out_->data();
    params.kv = {cache_->data(), scales_->data(), scales_->data() + case_.num_kv_heads, layout_};
    params.block_tables = tables_->data();
    params.query_start_loc = device_starts_->data();
    params.seq_lens = device_seq_lens_->data();
    params.num_seqs = static_cast<uint32_t>(seqs_.size());
    params.num_tokens = num_tokens();
    params.num_heads = num_heads();
    params.max_blocks_per_seq = max_blocks_;
    params.sm_scale = SmScale();
    params.window = case_.window;
    return params;
  }

  const PagedCase& the_case() const { return case_; }
  BackendLimits Limits() const {
    BackendLimits limits{};
    limits.max_num_seqs = static_cast<uint32_t>(seqs_.size());
    limits.num_heads = num_heads();
    limits.num_kv_heads = case_.num_kv_heads;
    limits.head_dim = case_.head_dim;
    return limits;
  }
  const std::vector<PagedSeq>& seqs() const { return seqs_; }
  BlockId BlockOf(size_t seq, uint32_t position) const {
    return host_tables_[seq * max_blocks_ + position / case_.block_size];
  }
  std::vector<uint8_t> Cache() const { return cache_->ToHost(); }

  // NaN in every row.
  void ClearOut() const { KVS_GPU(Memset(out_->data(), 0xff, out_->size() * 2)); }
  std::vector<float> Out() const { return Decode16(out_->ToHost(), case_.act); }

  // [num_tokens][num_heads][head_dim]; rows of sequences that `skip` names stay 0.
  template <class Skip>
  std::vector<double> Want(Skip skip) const {
    std::vector<double> want(num_tokens() * OutLen());
    for (size_t s = 0; s < seqs_.size(); ++s) {
      if (skip(seqs_[s])) continue;
      for (uint32_t q = 0; q < seqs_[s].query_len; ++q) {
        for (uint32_t head = 0; head < num_heads(); ++head) {
          const auto row = WantRow(s, q, head);
          std::copy(row.begin(), row.end(),
                    want.begin() + static_cast<ptrdiff_t>((starts_[s] + q) * OutLen() +
                                                          head * case_.head_dim));
        }
      }
    }
    return want;
  }

 private:
  float SmScale() const { return 1.0f / std::sqrt(static_cast<float>(case_.head_dim)); }

  std::vector<BlockId> MakeTables() {
    num_blocks_ = 1;
    for (const PagedSeq& seq : seqs_) {
      const uint32_t blocks = (seq.seq_len + case_.block_size - 1) / case_.block_size;
      max_blocks_ = std::max(max_blocks_, blocks);
      num_blocks_ += blocks;
    }
    std::vector<uint32_t> ids;
    for (uint32_t i = 1; i < num_blocks_; ++i) ids.push_back(i);
    std::shuffle(ids.begin(), ids.end(), random_.engine());
    std::vector<BlockId> tables(seqs_.size() * max_blocks_, kNullBlock);
    size_t next = 0;
    for (size_t s = 0; s < seqs_.size(); ++s) {
      for (uint32_t b = 0; b * case_.block_size < seqs_[s].seq_len && !seqs_[s].is_padding; ++b) {
        tables[s * max_blocks_ + b] = BlockId{ids[next++]};
      }
    }
    return tables;
  }

  void Store(size_t index, float value) {
    uint8_t* at = host_cache_.data() + index * SizeOf(case_.dtype);
    uint16_t half;
    switch (case_.dtype) {
      case KvCacheDType::kBf16:
        half = FloatToBf16(value);
        return static_cast<void>(std::memcpy(at, &half, 2));
      case KvCacheDType::kF16:
        half = FloatToF16(value);
        return static_cast<void>(std::memcpy(at, &half, 2));
      case KvCacheDType::kF8E4M3:
        *at = FloatToF8E4M3(value);
        return;
      case KvCacheDType::kF8E5M2:
        *at = FloatToF8E5M2(value);
        return;
      case KvCacheDType::kF32:
        FAIL() << "no GPU kernel reads a float32 cache";
    }
  }

  // Writes random K (or V) of every position to the cache and returns them as stored, without the
  // scale: [seq][kv_head][position][head_dim].
  std::vector<std::vector<std::vector<double>>> FillPlane(size_t (KvLayout::*offset)(BlockId,
                                                                                     uint32_t)
                                                              const) {
    std::vector<std::vector<std::vector<double>>> planes(seqs_.size());
    for (size_t s = 0; s < seqs_.size(); ++s) {
      for (uint32_t head = 0; head < case_.num_kv_heads; ++head) {
        const auto numbers = random_.Normals(size_t{seqs_[s].seq_len} * case_.head_dim, 1.5f);
        auto& plane = planes[s].emplace_back(numbers.size());
        for (uint32_t p = 0; p < seqs_[s].seq_len; ++p) {
          const BlockId block = host_tables_[s * max_blocks_ + p / case_.block_size];
          const size_t at =
              (layout_.*offset)(block, head) + p % case_.block_size * size_t{case_.head_dim};
          for (uint32_t i = 0; i < case_.head_dim; ++i) {
            const float value = numbers[p * case_.head_dim + i];
            plane[p * case_.head_dim + i] = naive::RoundTo(value, case_.dtype);
            Store(at + i, value);
          }
        }
      }
    }
    return planes;
  }

  std::vector<double> WantRow(size_t s, uint32_t q, uint32_t head) const {
    const uint32_t kv_head = head / case_.group;
    const uint32_t position = seqs_[s].seq_len - seqs_[s].query_len + q;
    const uint32_t begin =
        case_.window == 0 || position < case_.window ? 0 : position + 1 - case_.window;
    std::vector<double> query(case_.head_dim);
    for (uint32_t i = 0; i < case_.head_dim; ++i) {
      query[i] =
          Decode16(host_qkv_[(starts_[s] + q) * RowLen() + head * case_.head_dim + i], case_.act);
    }
    const std::span<const double> keys(keys_[s][kv_head]), values(values_[s][kv_head]);
    auto row = naive::Attention(query, keys.subspan(size_t{begin} * case_.head_dim),
                                values.subspan(size_t{begin} * case_.head_dim),
                                position + 1 - begin, SmScale() * double{k_scales_[kv_head]});
    for (double& value : row) value *= double{v_scales_[kv_head]};
    return row;
  }

  void Upload() {
    std::vector<float> scales = k_scales_;
    scales.insert(scales.end(), v_scales_.begin(), v_scales_.end());
    cache_ = std::make_unique<DeviceArray<uint8_t>>(host_cache_);
    scales_ = std::make_unique<DeviceArray<float>>(scales);
    tables_ = std::make_unique<DeviceArray<BlockId>>(host_tables_);
    device_starts_ = std::make_unique<DeviceArray<uint32_t>>(starts_);
    device_seq_lens_ = std::make_unique<DeviceArray<uint32_t>>(seq_lens_);
    qkv_ = std::make_unique<DeviceArray<uint16_t>>(host_qkv_);
    out_ = std::make_unique<DeviceArray<uint16_t>>(num_tokens() * OutLen());
  }

  const PagedCase case_;
  const std::vector<PagedSeq> seqs_;
  Random random_;
  uint32_t num_blocks_ = 0;
  uint32_t max_blocks_ = 0;
  const KvLayout layout_;
  std::vector<BlockId> host_tables_;
  // Stale bytes everywhere at first, NaN in every dtype: nothing past a sequence's end may count.
  std::vector<uint8_t> host_cache_;
  std::vector<std::vector<std::vector<double>>> keys_, values_;
  std::vector<float> k_scales_, v_scales_;
  std::vector<uint32_t> starts_, seq_lens_;
  std::vector<uint16_t> host_qkv_;
  std::unique_ptr<DeviceArray<uint8_t>> cache_;
  std::unique_ptr<DeviceArray<float>> scales_;
  std::unique_ptr<DeviceArray<BlockId>> tables_;
  std::unique_ptr<DeviceArray<uint32_t>> device_starts_, device_seq_lens_;
  std::unique_ptr<DeviceArray<uint16_t>> qkv_, out_;
};

// Room for one step's prefill tiles and, with a `split_target`, for the partial results of those
// that are split.
class PrefillMemory {
 public:
  PrefillMemory(const PagedAttentionParams& params, PrefillPath path, uint32_t split_target)
      : path_(path),
        split_{.target = split_target},
        tiles_(MaxPrefillTiles(path, params.num_heads / params.kv.layout.num_kv_heads,
                               params.num_tokens, params.num_seqs) +
               split_.MaxParts()),
        counts_(2),
        merges_(std::max(1u, split_.MaxParts())),
        states_(std::max(1u, split_.MaxParts()) * params.kv.layout.num_kv_heads *
                PrefillTileRows(path)),
        out_(states_.size() * params.kv.layout.head_dim) {
    KVS_GPU(Memset(out_.data(), 0xff, out_.size() * sizeof(float)));
    split_.out = out_.data();
    split_.state = states_.data();
    split_.merges = merges_.data();
    split_.num_merges = counts_.data() + 1;
  }
  PrefillTiles tiles() const { return {tiles_.data(), counts_.data(), path_, split_}; }
  std::vector<PrefillTile> ToHost() const {
    auto listed = tiles_.ToHost();
    listed.resize(counts_.ToHost()[0]);
    return listed;
  }

 private:
  const PrefillPath path_;
  PrefillSplit split_;
  const DeviceArray<PrefillTile> tiles_;
  const DeviceArray<uint32_t> counts_;
  const DeviceArray<PrefillMerge> merges_;
  const DeviceArray<float2> states_;
  const DeviceArray<float> out_;
};

}  // namespace kvs::gpu
