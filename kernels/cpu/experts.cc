#include "cpu/experts.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "cpu/memory.h"
#include "kvserve/check.h"

namespace kvs::cpu {
namespace {

constexpr uint32_t kRowsPerTask = 16;

// Calls fn(row) for every row, in parallel.
template <class Fn>
void ForEachRow(uint32_t num_rows, ThreadPool& pool, const Fn& fn) {
  pool.ParallelFor((num_rows + kRowsPerTask - 1) / kRowsPerTask, [&](uint32_t task, uint32_t) {
    const uint32_t end = std::min((task + 1) * kRowsPerTask, num_rows);
    for (uint32_t row = task * kRowsPerTask; row < end; ++row) fn(row);
  });
}

// The top_k largest logits in order, by insertion: top_k is small.
void ChooseExperts(const float* logits, const RouteExpertsParams& params, uint32_t* ids) {
  uint32_t count = 0;
  for (uint32_t expert = 0; expert < params.num_experts; ++expert) {
    uint32_t at = count;
    while (at > 0 && logits[expert] > logits[ids[at - 1]]) --at;
    if (at == params.top_k) continue;
    count = std::min(count + 1, params.top_k);
    for (uint32_t i = count - 1; i > at; --i) ids[i] = ids[i - 1];
    ids[at] = expert;
  }
}

void RouteRow(const float* logits, const RouteExpertsParams& params, uint32_t* ids,
              float* weights) {
  ChooseExperts(logits, params, ids);
  const float largest = logits[ids[0]];
  float sum = 0.0f;
  for (uint32_t i = 0; i < params.top_k; ++i) {
    weights[i] = std::exp(logits[ids[i]] - largest);
    sum += weights[i];
  }
  if (!params.normalize) {
    sum = 0.0f;
    for (uint32_t i = 0; i < params.num_experts; ++i) sum += std::exp(logits[i] - largest);
  }
  for (uint32_t i = 0; i < params.top_k; ++i) weights[i] /= sum;
}

}  // namespace

Result<void> ExpertOps::Reserve(const BackendLimits& limits) {
  const ExpertsConfig& experts = limits.experts;
  if (experts.num_experts == 0) return {};
  ends_.resize(experts.num_experts);
  order_.resize(size_t{limits.max_num_batched_tokens} * experts.num_per_token);
  max_features_ = std::max(limits.hidden_size, 2 * experts.intermediate_size);
  const size_t floats = size_t{kXMaxRows} * max_features_;
  auto memory = AllocatePages(2 * floats * sizeof(float), "expert scratch", Pages::kNow);
  if (!memory) return tl::unexpected<Status>(std::move(memory).error());
  memory_ = std::move(*memory);
  gathered_ = memory_.as<float>();
  results_ = gathered_ + floats;
  return {};
}

void ExpertOps::Route(const RouteExpertsParams& params, ThreadPool& pool) const {
  KVS_CHECK_OP(params.top_k, <=, params.num_experts);
  ForEachRow(params.num_rows, pool, [&](uint32_t row) {
    RouteRow(params.logits + size_t{row} * params.num_experts, params,
             params.expert_ids + size_t{row} * params.top_k,
             params.expert_weights + size_t{row} * params.top_k);
  });
}

void ExpertOps::SortByExpert(const ExpertLinearParams& params) {
  KVS_CHECK_OP(params.num_experts, ==, ends_.size());
  KVS_CHECK_OP(params.num_rows, <=, order_.size());
  std::fill(ends_.begin(), ends_.end(), 0u);
  for (uint32_t row = 0; row < params.num_rows; ++row) {
    KVS_CHECK_OP(params.expert_ids[row], <, params.num_experts);
    ++ends_[params.expert_ids[row]];
  }
  uint32_t begin = 0;
  for (uint32_t& end : ends_) begin += std::exchange(end, begin);
  for (uint32_t row = 0; row < params.num_rows; ++row) {
    order_[ends_[params.expert_ids[row]]++] = row;
  }
}

void ExpertOps::Linear(const ExpertLinearParams& params, std::span<uint8_t> scratch,
                       ThreadPool& pool) {
  SortByExpert(params);
  const size_t in = params.experts[0]->in_features;
  const size_t out = params.experts[0]->out_features;
  KVS_CHECK_OP(std::max(in, out), <=, max_features_);
  uint32_t first = 0;
  for (uint32_t expert = 0; expert < params.num_experts; ++expert) {
    for (; first < ends_[expert]; first = std::min(first + kXMaxRows, ends_[expert])) {
      const uint32_t count = std::min(kXMaxRows, ends_[expert] - first);
      const uint32_t* const rows = order_.data() + first;
      ForEachRow(count, pool, [&](uint32_t i) {
        std::memcpy(gathered_ + i * in,
                    static_cast<const float*>(params.x) + rows[i] / params.rows_per_x * in,
                    in * sizeof(float));
      });
      linear_.Run({.x = gathered_,
                   .weight = params.experts[expert],
                   .out = results_,
                   .num_rows = count,
                   .out_is_f32 = true},
                  scratch.data(), scratch.size(), pool);
      ForEachRow(count, pool, [&](uint32_t i) {
        std::memcpy(static_cast<float*>(params.out) + rows[i] * out, results_ + i * out,
                    out * sizeof(float));
      });
    }
  }
}

void ExpertOps::Combine(const CombineExpertsParams& params, ThreadPool& pool) const {
  const size_t dim = params.dim;
  ForEachRow(params.num_rows, pool, [&](uint32_t row) {
    const float* const weights = params.expert_weights + size_t{row} * params.top_k;
    const float* in = static_cast<const float*>(params.in) + size_t{row} * params.top_k * dim;
    float* const out = static_cast<float*>(params.out) + row * dim;
    for (size_t i = 0; i < dim; ++i) out[i] = weights[0] * in[i];
    for (uint32_t k = 1; k < params.top_k; ++k) {
      in += dim;
      for (size_t i = 0; i < dim; ++i) out[i] += weights[k] * in[i];
    }
  });
}

}  // namespace kvs::cpu
