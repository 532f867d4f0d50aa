// Sampling as include/kvserve/kernel_params.h states it, in double, with sorted lists: slow and
// plain, for tests to compare with.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "kvserve/kernel_params.h"

namespace kvs::test {

struct Candidate {
  uint32_t token;
  double value;
};

// Descending by value, equal values ascending by token.
inline std::vector<Candidate> Sorted(const std::vector<double>& values) {
  std::vector<Candidate> sorted;
  for (uint32_t i = 0; i < values.size(); ++i) sorted.push_back({i, values[i]});
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const Candidate& a, const Candidate& b) { return a.value > b.value; });
  return sorted;
}

inline void FillLogprobs(const std::vector<double>& raw, uint32_t token, int32_t num_logprobs,
                         SampleResult& result) {
  const std::vector<Candidate> sorted = Sorted(raw);
  double sum = 0;
  for (const double value : raw) sum += std::exp(value - sorted[0].value);
  const double log_sum = sorted[0].value + std::log(sum);
  result.logprob = static_cast<float>(raw[token] - log_sum);
  result.rank = 1;
  for (const double value : raw) result.rank += value > raw[token] ? 1 : 0;
  const auto num_top = std::min<size_t>(static_cast<size_t>(num_logprobs), sorted.size());
  for (size_t i = 0; i < num_top; ++i) {
    result.top_ids[i] = TokenId{sorted[i].token};
    result.top_logprobs[i] = static_cast<float>(sorted[i].value - log_sum);
  }
}

inline void ApplyHistory(const SampleRow& row, std::vector<double>& values) {
  for (uint32_t i = 0; i < row.num_biases; ++i) {
    values[row.biases[i].token.value] += row.biases[i].bias;
  }
  for (uint32_t i = 0; i < row.num_banned; ++i) {
    values[row.banned[i].value] = -std::numeric_limits<double>::infinity();
  }
  for (uint32_t i = 0; i < row.num_counts; ++i) {
    double& value = values[row.counts[i].token.value];
    const double count = row.counts[i].output_count;
    value = value > 0 ? value / row.repetition_penalty : value * row.repetition_penalty;
    value -= row.frequency_penalty * count + (count > 0 ? row.presence_penalty : 0.0);
  }
}

// Draws from the descending list what min_p, top_k and top_p leave of it.
inline uint32_t Draw(const SampleRow& row, std::vector<Candidate> sorted) {
  const double largest = sorted[0].value;
  double sum = 0;
  for (Candidate& candidate : sorted) {
    candidate.value = std::exp((candidate.value - largest) / row.temperature);
    sum += candidate.value;
  }
  size_t num_kept = sorted.size();
  while (num_kept > 1 && sorted[num_kept - 1].value < row.min_p) --num_kept;
  if (row.top_k > 0) num_kept = std::min(num_kept, static_cast<size_t>(row.top_k));
  sum = 0;
  for (size_t i = 0; i < num_kept; ++i) sum += sorted[i].value;
  double kept = 0;
  for (size_t i = 0; i < num_kept; ++i) {
    kept += sorted[i].value;
    if (kept >= row.top_p * sum) num_kept = i + 1;
  }
  double at = row.uniform * kept;
  for (size_t i = 0; i < num_kept; ++i) {
    at -= sorted[i].value;
    if (at < 0) return sorted[i].token;
  }
  return sorted[num_kept - 1].token;
}

// `logits`: [vocab_size], of this row.
inline SampleResult ReferenceSample(const SampleRow& row, std::span<const float> logits) {
  SampleResult result{};
  std::vector<double> values(logits.begin(), logits.end());
  bool any_finite = false;
  bool broken = false;
  for (const double value : values) {
    any_finite = any_finite || std::isfinite(value);
    broken = broken || std::isnan(value) || value == std::numeric_limits<double>::infinity();
  }
  result.token = kNoToken;
  if (broken || !any_finite) return result;
  const std::vector<double> raw = values;
  uint32_t token = row.given.value;
  if (row.draw) {
    ApplyHistory(row, values);
    const std::vector<Candidate> sorted = Sorted(values);
    token = row.temperature == 0.0f ? sorted[0].token : Draw(row, sorted);
  }
  result.token = TokenId{token};
  if (row.num_logprobs >= 0) FillLogprobs(raw, token, row.num_logprobs, result);
  return result;
}

}  // namespace kvs::test
