#include "quality/score.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "kvserve/check.h"
#include "model/kv_cache.h"

namespace kvs {
namespace {

// Logits to log-probabilities, in place.
void LogSoftmax(std::span<float> row) {
  const float largest = *std::max_element(row.begin(), row.end());
  double sum = 0.0;
  for (const float logit : row) sum += std::exp(double{logit} - largest);
  const auto shift = static_cast<float>(largest + std::log(sum));
  for (float& logit : row) logit -= shift;
}

size_t ArgMax(std::span<const float> row) {
  return static_cast<size_t>(std::max_element(row.begin(), row.end()) - row.begin());
}

double KlDivergence(std::span<const float> reference, std::span<const float> other) {
  double sum = 0.0;
  for (size_t i = 0; i < reference.size(); ++i) {
    sum += std::exp(double{reference[i]}) * (double{reference[i]} - other[i]);
  }
  return std::max(sum, 0.0);  // rounding may leave it just below
}

}  // namespace

Scorer::Scorer(const ScoreLimits& limits, std::vector<Variant>& variants, Model& model,
               Backend& backend)
    : limits_(limits),
      variants_(variants),
      model_(model),
      backend_(backend),
      vocab_size_(model.config().vocab_size),
      batch_(limits.block_size) {
  for (Variant& variant : variants_) variant.cache.Observe(&variant.observer);
}

std::span<const float> Scorer::Forward(Variant& variant, const Tokens& tokens, size_t begin,
                                       size_t end, uint32_t num_rows, std::vector<float>& host) {
  batch_.Clear();
  batch_.Add(tokens, begin, end, num_rows);
  std::swap(model_.kv_cache(), variant.cache);
  const float* logits = model_.Forward(batch_.plan());
  backend_.Synchronize();
  std::swap(model_.kv_cache(), variant.cache);
  host.resize(size_t{num_rows} * vocab_size_);
  if (num_rows > 0) backend_.CopyToHost(host.data(), logits, host.size() * sizeof(float));
  return host;
}

void Scorer::ScoreText(const Sample& sample) {
  const size_t num_scored = sample.tokens.size() - 1;
  for (size_t begin = 0; begin < num_scored; begin += limits_.step_tokens) {
    const size_t end = std::min<size_t>(begin + limits_.step_tokens, num_scored);
    for (Variant& variant : variants_) ScoreChunk(variant, sample.tokens, begin, end);
  }
}

void Scorer::ScoreChunk(Variant& variant, const Tokens& tokens, size_t begin, size_t end) {
  const bool is_reference = &variant == &variants_.front();
  std::vector<float>& host = is_reference ? reference_ : host_;
  Forward(variant, tokens, begin, end, static_cast<uint32_t>(end - begin), host);
  TextScore& score = variant.text;
  for (size_t i = 0; i < end - begin; ++i) {
    const std::span<float> row = std::span(host).subspan(i * vocab_size_, vocab_size_);
    LogSoftmax(row);
    ++score.num_tokens;
    score.negative_log_likelihood -= row[tokens[begin + i + 1].value];
    const std::span<const float> reference =
        std::span<const float>(reference_).subspan(i * vocab_size_, vocab_size_);
    score.num_agreeing += ArgMax(row) == ArgMax(reference) ? 1 : 0;
    if (!is_reference) score.kl_divergence += KlDivergence(reference, row);
  }
}

void Scorer::ScorePasskey(const Sample& sample) {
  KVS_CHECK_OP(sample.num_answer_tokens, <=, limits_.max_num_answers);
  for (Variant& variant : variants_) {
    PasskeyScore& score = variant.passkey[sample.length];
    ++score.num_prompts;
    score.num_right += IsRight(variant, sample) ? 1 : 0;
  }
}

bool Scorer::IsRight(Variant& variant, const Sample& sample) {
  // The row of a token speaks of the next one; the last token has none to speak of.
  const size_t num_computed = sample.tokens.size() - 1;
  const size_t asked = num_computed - sample.num_answer_tokens;
  for (size_t begin = 0; begin < asked; begin += limits_.step_tokens) {
    Forward(variant, sample.tokens, begin, std::min<size_t>(begin + limits_.step_tokens, asked), 0,
            host_);
  }
  const std::span<const float> logits =
      Forward(variant, sample.tokens, asked, num_computed, sample.num_answer_tokens, host_);
  for (uint32_t i = 0; i < sample.num_answer_tokens; ++i) {
    const size_t said = ArgMax(logits.subspan(size_t{i} * vocab_size_, vocab_size_));
    if (said != sample.tokens[asked + i + 1].value) return false;
  }
  return true;
}

void Scorer::CollectStatistics() {
  for (Variant& variant : variants_) variant.observer.Collect(variant.statistics, backend_);
}

}  // namespace kvs
