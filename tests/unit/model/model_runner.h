// A loaded model and sequences to run through it, without an engine.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "kvserve/backend.h"
#include "model/model.h"

namespace kvs {

// The tokens of one generation and the blocks that hold their K and V.
struct TestSequence {
  std::vector<TokenId> tokens;
  std::vector<BlockId> blocks;
  uint32_t num_computed = 0;
};

using Logits = std::vector<std::vector<float>>;  // [rows][vocab_size]

class ModelRunner {
 public:
  static constexpr uint32_t kNumBlocks = 256;

  static ModelLoadOptions Options(const std::filesystem::path& model_dir, DType dtype,
                                  KvCacheDType kv_dtype, uint32_t block_size = 16) {
    ModelLoadOptions options;
    options.model_dir = model_dir;
    options.dtype = dtype;
    options.kv_dtype = kv_dtype;
    options.num_blocks = kNumBlocks;
    options.limits = {.max_num_seqs = 8,
                      .max_num_batched_tokens = 512,
                      .max_model_len = 512,
                      .max_num_logits_rows = 512,
                      .block_size = block_size};
    return options;
  }

  ModelRunner(const ModelConfig& config, const ModelLoadOptions& options,
              const std::string& instruction_set = "auto")
      : ModelRunner(config, options,
                    *MakeCpuBackend({.num_threads = 2, .instruction_set = instruction_set})) {}

  ModelRunner(const ModelConfig& config, const ModelLoadOptions& options,
              std::unique_ptr<Backend> backend)
      : options_(options), backend_(std::move(backend)) {
    auto model = Model::Load(config, options, *backend_);
    if (model) {
      model_ = std::move(*model);
    } else {
      ADD_FAILURE() << model.error().message();
    }
  }

  // The model in options.model_dir.
  explicit ModelRunner(const ModelLoadOptions& options, const std::string& instruction_set = "auto")
      : ModelRunner(*ReadModelConfig(options.model_dir), options, instruction_set) {}

  Model& model() { return *model_; }
  bool ok() const { return model_ != nullptr; }

  TestSequence NewSequence(std::vector<TokenId> tokens) {
    TestSequence sequence;
    sequence.tokens = std::move(tokens);
    return sequence;
  }

  // The next `num_tokens` tokens of the sequence, with logits for the last `num_rows` of them.
  ScheduledSlice Slice(TestSequence& sequence, uint32_t num_tokens, uint32_t num_rows) {
    const uint32_t end = sequence.num_computed + num_tokens;
    while (sequence.blocks.size() * options_.limits.block_size < end) {
      sequence.blocks.push_back({++last_block_});
    }
    const ScheduledSlice slice{
        std::span(sequence.tokens).subspan(sequence.num_computed, num_tokens),
        sequence.num_computed, sequence.blocks, num_rows};
    sequence.num_computed = end;
    return slice;
  }

  Logits Run(std::vector<ScheduledSlice> slices) {
    StepPlan plan;
    plan.slices = std::move(slices);
    for (const ScheduledSlice& slice : plan.slices) {
      plan.num_tokens += static_cast<uint32_t>(slice.token_ids.size());
      plan.num_logits_rows += slice.num_logits_rows;
    }
    const float* logits = model_->Forward(plan);
    backend_->Synchronize();
    const size_t vocab_size = model_->config().vocab_size;
    Logits rows(plan.num_logits_rows);
    for (std::vector<float>& row : rows) {
      row.resize(vocab_size);
      backend_->CopyToHost(row.data(), logits, vocab_size * sizeof(float));
      logits += vocab_size;
    }
    return rows;
  }

  // All logits of the sequence's tokens, computed in chunks of `chunk` tokens.
  Logits RunAll(TestSequence& sequence, uint32_t chunk) {
    Logits all;
    while (sequence.num_computed < sequence.tokens.size()) {
      const auto left = static_cast<uint32_t>(sequence.tokens.size()) - sequence.num_computed;
      const uint32_t n = std::min(left, chunk);
      for (auto& row : Run({Slice(sequence, n, n)})) all.push_back(std::move(row));
    }
    return all;
  }

 private:
  ModelLoadOptions options_;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Model> model_;
  uint32_t last_block_ = 0;
};

inline uint32_t ArgMax(const std::vector<float>& row) {
  return static_cast<uint32_t>(std::max_element(row.begin(), row.end()) - row.begin());
}

// The difference between the two largest logits.
inline float TopMargin(std::vector<float> row) {
  std::nth_element(row.begin(), row.begin() + 1, row.end(), std::greater<>());
  return row[0] - row[1];
}

}  // namespace kvs
