// Scoring the variants of a KV cache, side by side: every sample is computed once with each.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "kvserve/backend.h"
#include "model/model.h"
#include "quality/samples.h"
#include "quality/variant.h"

namespace kvs {

struct ScoreLimits {
  uint32_t block_size;
  uint32_t step_tokens;      // most tokens, and most rows of logits, of a step
  uint32_t max_num_answers;  // most tokens of an answer
};

class Scorer {
 public:
  // The first variant is the reference. All arguments outlive it.
  Scorer(const ScoreLimits& limits, std::vector<Variant>& variants, Model& model, Backend& backend);

  // Perplexity, KL divergence and agreement.
  void ScoreText(const Sample& sample);
  // Whether the answer at the end of the sample is what the model says.
  void ScorePasskey(const Sample& sample);
  // Takes what the caches observed into the variants' statistics.
  void CollectStatistics();

 private:
  // Runs tokens [begin, end) with the variant's cache; logits of the last `num_rows`, on the host.
  std::span<const float> Forward(Variant& variant, const Tokens& tokens, size_t begin, size_t end,
                                 uint32_t num_rows, std::vector<float>& host);
  void ScoreChunk(Variant& variant, const Tokens& tokens, size_t begin, size_t end);
  bool IsRight(Variant& variant, const Sample& sample);

  const ScoreLimits limits_;
  std::vector<Variant>& variants_;
  Model& model_;
  Backend& backend_;
  const uint32_t vocab_size_;
  Batch batch_;
  std::vector<float> reference_;  // log-probabilities of the reference, [rows, vocab_size]
  std::vector<float> host_;
};

}  // namespace kvs
