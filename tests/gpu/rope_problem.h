// What RopeKvStore needs for the newest tokens of a paged problem, and the check that decode
// attention does its work: the same bits as the two ops one after the other.
#pragma once

#include <memory>
#include <vector>

#include "gpu/ops.h"
#include "gpu/paged_decode.h"
#include "gpu/paged_problem.h"

namespace kvs::gpu {

struct RopeCase {
  bool has_bias = false;  // some of which no FP8 code holds
  bool has_norms = false;
};

class RopeProblem {
 public:
  RopeProblem(const PagedProblem& problem, const RopeCase& rope)
      : params_(problem.Params()), rope_(rope) {
    const PagedCase& c = problem.the_case();
    Random random(c.head_dim);
    std::vector<uint32_t> positions;
    std::vector<SlotId> slots;
    uint32_t num_positions = 0;
    for (size_t s = 0; s < problem.seqs().size(); ++s) {
      const uint32_t position = problem.seqs()[s].seq_len - 1;
      positions.push_back(position);
      slots.push_back(
          SlotId{problem.BlockOf(s, position).value * c.block_size + position % c.block_size});
      num_positions = std::max(num_positions, position + 1);
    }
    const size_t units = params_.num_heads + size_t{2} * c.num_kv_heads;
    auto bias = random.Normals(units * c.head_dim);
    // Of the first heads of K and V, whose scales are below 1.
    const float large = c.dtype == KvCacheDType::kF8E5M2 ? 6e4f : 1e4f;
    bias[size_t{params_.num_heads} * c.head_dim + 5] = -large;
    bias[(size_t{params_.num_heads} + c.num_kv_heads) * c.head_dim + 3] = large;
    positions_ = std::make_unique<DeviceArray<uint32_t>>(positions);
    slots_ = std::make_unique<DeviceArray<SlotId>>(slots);
    cos_sin_ = std::make_unique<DeviceArray<float>>(
        random.Normals(size_t{num_positions} * c.head_dim, 0.7f));
    bias_ = std::make_unique<DeviceArray<float>>(bias);
    q_norm_ = std::make_unique<DeviceArray<float>>(random.Normals(c.head_dim));
    k_norm_ = std::make_unique<DeviceArray<float>>(random.Normals(c.head_dim));
  }

  RopeKvStoreParams Params() const {
    return {.qkv = const_cast<void*>(params_.qkv),
            .positions = positions_->data(),
            .slot_mapping = slots_->data(),
            .cos_sin = cos_sin_->data(),
            .kv = params_.kv,
            .num_saturated = nullptr,
            .num_tokens = params_.num_tokens,
            .num_heads = params_.num_heads,
            .qkv_bias = rope_.has_bias ? bias_->data() : nullptr,
            .q_norm = rope_.has_norms ? q_norm_->data() : nullptr,
            .k_norm = rope_.has_norms ? k_norm_->data() : nullptr,
            .norm_eps = 1e-5f};
  }

 private:
  const PagedAttentionParams params_;
  const RopeCase rope_;
  std::unique_ptr<DeviceArray<uint32_t>> positions_;
  std::unique_ptr<DeviceArray<SlotId>> slots_;
  std::unique_ptr<DeviceArray<float>> cos_sin_, bias_, q_norm_, k_norm_;
};

struct RopeOutcome {
  std::vector<float> out;
  std::vector<uint8_t> cache;
  uint64_t num_saturated;
};

inline RopeOutcome RopeThenDecode(const PagedCase& c, const std::vector<PagedSeq>& seqs,
                                  const RopeCase& rope, bool fused, Launch launch) {
  const PagedProblem problem(c, seqs, c.head_dim + c.group);
  const RopeProblem rope_problem(problem, rope);
  const RopeKvStoreParams rope_params = rope_problem.Params();
  const DeviceArray<uint64_t> num_saturated(std::vector<uint64_t>{100});
  PagedDecode decode;
  EXPECT_TRUE(decode.Reserve(problem.Limits(), *launch.facts));
  PagedAttentionParams params = problem.Params();
  Launch in_order = launch;
  in_order.dependent = false;
  decode.Plan(params, in_order);
  if (fused) {
    params.rope = &rope_params;
  } else {
    RopeKvStore(rope_params, num_saturated.data(), in_order);
  }
  decode.Run(params, num_saturated.data(), launch);
  std::vector<float> out = problem.Out();
  for (size_t s = 0; s < seqs.size(); ++s) {  // What padding sees of itself is of no meaning.
    const auto row = out.begin() + static_cast<ptrdiff_t>(s * problem.OutLen());
    if (seqs[s].is_padding) std::fill_n(row, problem.OutLen(), 0.0f);
  }
  return {std::move(out), problem.Cache(), num_saturated.ToHost()[0]};
}

inline void ExpectDecodeDoesRope(const PagedCase& c, const std::vector<PagedSeq>& seqs,
                                 const RopeCase& rope, const Launch& launch) {
  SCOPED_TRACE(Describe(c) + (rope.has_bias ? " bias" : "") + (rope.has_norms ? " norms" : "") +
               (launch.dependent ? " dependent" : ""));
  const RopeOutcome want = RopeThenDecode(c, seqs, rope, false, launch);
  const RopeOutcome got = RopeThenDecode(c, seqs, rope, true, launch);
  EXPECT_TRUE(got.out == want.out);
  EXPECT_TRUE(got.cache == want.cache);
  EXPECT_EQ(got.num_saturated, want.num_saturated);
  if (rope.has_bias && IsFp8(c.dtype)) {
    EXPECT_GT(got.num_saturated, 100u);
  }
}

}  // namespace kvs::gpu
