// From the rows of a dataset to token lists of one model.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "kvserve/status.h"
#include "quality/batch.h"
#include "quality/dataset.h"
#include "template/chat_template.h"
#include "tokenize/tokenizer.h"

namespace kvs {

struct Sample {
  Tokens tokens;
  uint32_t num_answer_tokens = 0;  // of `tokens`, the last ones
  uint32_t length = 0;             // the row's
};

class SampleMaker {
 public:
  // Reads tokenizer and chat template of a model; a model without a template takes rows of text
  // alone.
  static Result<SampleMaker> Load(const std::filesystem::path& model_dir);

  // At most `max_samples` samples of at least 2 and at most `max_tokens` tokens: longer ones are
  // cut, plain text is cut into several. kDataError names file and row.
  Result<std::vector<Sample>> Make(const std::filesystem::path& dataset, uint64_t max_samples,
                                   uint32_t max_tokens) const;
  // Prompts with an answer behind each, none cut; at most `max_per_length` of each length. Those
  // that do not fit into `max_tokens` are left out and counted.
  struct Prompts {
    std::vector<Sample> samples;
    uint64_t num_too_long = 0;
  };
  Result<Prompts> MakePrompts(const std::filesystem::path& dataset, uint64_t max_per_length,
                              uint32_t max_tokens) const;

 private:
  SampleMaker(std::unique_ptr<Tokenizer> tokenizer, std::unique_ptr<const ChatTemplate> chat)
      : tokenizer_(std::move(tokenizer)), chat_(std::move(chat)) {}
  Result<Tokens> TokensOf(const DatasetRow& row, bool open_turn) const;
  Result<Sample> PromptOf(const DatasetRow& row) const;

  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<const ChatTemplate> chat_;  // null: the model has no chat template
};

}  // namespace kvs
