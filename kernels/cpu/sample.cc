#include "cpu/sample.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "cpu/memory.h"
#include "kvserve/check.h"

namespace kvs::cpu {
namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

constexpr uint32_t NumChunks(uint32_t n) { return (n + kSumChunk - 1) / kSumChunk; }

// Bias, banned ids, penalties: in this order.
void Adjust(const SampleRow& row, float* x) {
  for (uint32_t i = 0; i < row.num_biases; ++i) x[row.biases[i].token.value] += row.biases[i].bias;
  for (uint32_t i = 0; i < row.num_banned; ++i) x[row.banned[i].value] = kMinusInfinity;
  for (uint32_t i = 0; i < row.num_counts; ++i) {
    const TokenCount& count = row.counts[i];
    float& logit = x[count.token.value];
    logit = logit > 0 ? logit / row.repetition_penalty : logit * row.repetition_penalty;
    if (count.output_count > 0) {
      logit -= row.frequency_penalty * static_cast<float>(count.output_count);
      logit -= row.presence_penalty;
    }
  }
}

}  // namespace

Result<void> SampleOp::Reserve(uint32_t vocab_size, uint32_t num_threads) {
  const size_t row_bytes = (size_t{vocab_size} * sizeof(float) + 63) / 64 * 64;
  const size_t thread_bytes =
      row_bytes + size_t{vocab_size} * sizeof(Candidate) + NumChunks(vocab_size) * sizeof(double);
  const size_t stride = (thread_bytes + 63) / 64 * 64;
  auto memory = AllocatePages(stride * num_threads, "sampling scratch", Pages::kNow);
  if (!memory) return tl::unexpected<Status>(std::move(memory).error());
  memory_ = std::move(*memory);
  scratch_.clear();
  for (uint32_t thread = 0; thread < num_threads; ++thread) {
    uint8_t* base = memory_.as<uint8_t>() + thread * stride;
    auto* candidates = reinterpret_cast<Candidate*>(base + row_bytes);
    scratch_.push_back({.candidates = candidates,
                        .logits = reinterpret_cast<float*>(base),
                        .chunk_sums = reinterpret_cast<double*>(candidates + vocab_size)});
  }
  return {};
}

void SampleOp::Run(const SampleParams& params, ThreadPool& pool) {
  KVS_CHECK(!scratch_.empty());
  pool.ParallelFor(params.num_rows, [&](uint32_t index, uint32_t thread) {
    const SampleRow& row = params.rows[index];
    RunRow(row, params.logits + size_t{row.logits_row} * params.vocab_size, params.vocab_size,
           scratch_[thread], &params.results[index]);
  });
}

void SampleOp::RunRow(const SampleRow& row, float* logits, uint32_t n, const Scratch& scratch,
                      SampleResult* result) const {
  *result = SampleResult{};
  result->token = kNoToken;
  float max = 0;
  if (!kernels_.scan(logits, n, &max)) return;
  const bool want_logprobs = row.num_logprobs >= 0;
  if (!row.draw) {
    result->token = row.given;
  } else if (want_logprobs) {
    std::copy_n(logits, n, scratch.logits);
    result->token = Choose(row, scratch.logits, n, scratch);
  } else {
    result->token = Choose(row, logits, n, scratch);
  }
  if (want_logprobs && result->token != kNoToken) {
    FillLogprobs(row, logits, n, max, scratch.candidates, result);
  }
}

void SampleOp::FillLogprobs(const SampleRow& row, const float* raw, uint32_t n, float max,
                            Candidate* candidates, SampleResult* result) const {
  const double log_sum = max + std::log(kernels_.sum_exp(raw, n, max));
  const float chosen = raw[result->token.value];
  result->logprob = static_cast<float>(chosen - log_sum);
  uint32_t num_greater = 0;
  for (uint32_t i = 0; i < n; ++i) num_greater += raw[i] > chosen ? 1 : 0;
  result->rank = num_greater + 1;
  const uint32_t wanted = std::min({static_cast<uint32_t>(row.num_logprobs), kMaxLogprobs, n});
  const uint32_t found = SelectTop(raw, n, wanted, candidates);
  for (uint32_t i = 0; i < found; ++i) {
    result->top_ids[i] = TokenId{candidates[i].id};
    result->top_logprobs[i] = static_cast<float>(candidates[i].logit - log_sum);
  }
}

TokenId SampleOp::Choose(const SampleRow& row, float* x, uint32_t n, const Scratch& scratch) const {
  Adjust(row, x);
  float max = 0;
  if (!kernels_.scan(x, n, &max)) return kNoToken;
  if (row.temperature == 0) {
    return TokenId{static_cast<uint32_t>(std::find(x, x + n, max) - x)};
  }
  // Relative to the largest, so that a small temperature overflows to -infinity at worst.
  const float floor = row.min_p > 0 ? std::log(row.min_p) : kMinusInfinity;
  for (uint32_t i = 0; i < n; ++i) {
    const float scaled = (x[i] - max) / row.temperature;
    x[i] = scaled < floor ? kMinusInfinity : scaled;
  }
  return TokenId{Draw(row, x, n, scratch)};
}

// x: logits relative to the largest, which is 0; -infinity = excluded.
uint32_t SampleOp::Draw(const SampleRow& row, float* x, uint32_t n, const Scratch& scratch) const {
  if (row.top_k > 0 && static_cast<uint32_t>(row.top_k) < n) {
    const uint32_t count = SelectTop(x, n, static_cast<uint32_t>(row.top_k), scratch.candidates);
    double mass = 0;
    for (uint32_t i = 0; i < count; ++i) mass += std::exp(double{scratch.candidates[i].logit});
    return DrawFrom(scratch.candidates, count, row.top_p < 1 ? row.top_p * mass : mass,
                    row.uniform);
  }
  if (row.top_p < 1) return DrawTopP(row.top_p, row.uniform, x, n, scratch.candidates);
  return DrawAny(row.uniform, x, n, scratch.chunk_sums);
}

// The k first candidates in order; fewer where elements are -infinity. k <= n.
uint32_t SampleOp::SelectTop(const float* x, uint32_t n, uint32_t k, Candidate* out) {
  if (k == 0) return 0;
  uint32_t count = 0;
  uint32_t i = 0;
  for (; i < n && count < k; ++i) {
    if (x[i] == kMinusInfinity) continue;
    out[count++] = {x[i], i};
  }
  std::make_heap(out, out + count, Before);  // the last in order on top
  for (; i < n; ++i) {
    if (x[i] <= out[0].logit) continue;
    std::pop_heap(out, out + count, Before);
    out[count - 1] = {x[i], i};
    std::push_heap(out, out + count, Before);
  }
  std::sort_heap(out, out + count, Before);
  return count;
}

// Draws among the fewest leading candidates whose weights reach top_p_mass. n >= 1.
uint32_t SampleOp::DrawFrom(const Candidate* candidates, uint32_t n, double top_p_mass,
                            double uniform) {
  double kept_mass = 0;
  uint32_t kept = 0;
  while (kept < n && (kept == 0 || kept_mass < top_p_mass)) {
    kept_mass += std::exp(double{candidates[kept++].logit});
  }
  const double target = uniform * kept_mass;
  double sum = 0;
  for (uint32_t i = 0; i < kept; ++i) {
    sum += std::exp(double{candidates[i].logit});
    if (sum > target) return candidates[i].id;
  }
  return candidates[kept - 1].id;
}

// Orders only as many candidates as top_p needs: those of probability below (1 - top_p) / n have
// together less than 1 - top_p and are never among them; the rest stand in a heap.
uint32_t SampleOp::DrawTopP(double top_p, double uniform, const float* x, uint32_t n,
                            Candidate* candidates) const {
  const double mass = kernels_.sum_exp(x, n, 0.0f);
  const double slack = 0.01;  // against the rounding of `mass`; only costs a few more candidates
  const auto floor = static_cast<float>(std::log(mass * (1 - top_p) / n) - slack);
  uint32_t count = 0;
  for (uint32_t i = 0; i < n; ++i) {
    if (x[i] >= floor && x[i] != kMinusInfinity) candidates[count++] = {x[i], i};
  }
  const auto after = [](const Candidate& a, const Candidate& b) { return Before(b, a); };
  std::make_heap(candidates, candidates + count, after);
  double ordered_mass = 0;
  uint32_t left = count;
  while (left > 0 && (left == count || ordered_mass < top_p * mass)) {
    std::pop_heap(candidates, candidates + left, after);
    ordered_mass += std::exp(double{candidates[--left].logit});
  }
  std::reverse(candidates + left, candidates + count);  // popped from the back
  return DrawFrom(candidates + left, count - left, ordered_mass, uniform);
}

uint32_t SampleOp::DrawAny(double uniform, float* x, uint32_t n, double* chunk_sums) const {
  kernels_.exp_in_place(x, n, chunk_sums);
  double mass = 0;
  for (uint32_t chunk = 0; chunk < NumChunks(n); ++chunk) mass += chunk_sums[chunk];
  double target = uniform * mass;
  uint32_t chunk = 0;
  while (chunk + 1 < NumChunks(n) && chunk_sums[chunk] <= target) target -= chunk_sums[chunk++];
  // The walk may end past its chunk by a rounding: then the last element that can be drawn is it.
  uint32_t last = n;
  for (uint32_t i = chunk * kSumChunk; i < std::min(n, (chunk + 1) * kSumChunk); ++i) {
    if (x[i] == 0) continue;
    last = i;
    target -= x[i];
    if (target < 0) return i;
  }
  if (last < n) return last;
  return static_cast<uint32_t>(std::max_element(x, x + n) - x);
}

}  // namespace kvs::cpu
