#include "quality/samples.h"

#include <fmt/format.h>

#include <map>
#include <utility>

#include "template/json_value.h"

namespace kvs {

Result<SampleMaker> SampleMaker::Load(const std::filesystem::path& model_dir) {
  auto tokenizer = Tokenizer::Load(model_dir);
  if (!tokenizer) return tl::unexpected(tokenizer.error());
  auto chat = ChatTemplate::Load(model_dir, "");
  if (!chat) return tl::unexpected(chat.error());
  return SampleMaker(*std::move(tokenizer), *std::move(chat));
}

Result<Tokens> SampleMaker::TokensOf(const DatasetRow& row, bool open_turn) const {
  if (row.messages.empty()) return tokenizer_->Encode(row.text);
  if (chat_ == nullptr) {
    return Error(Code::kDataError,
                 "the row has messages, but the model has no chat template; give "
                 "rows of text");
  }
  auto messages = jinja::ParseJsonValue(row.messages, jinja::Origin::kUser);
  if (!messages) return tl::unexpected(messages.error());
  ChatInputs inputs;
  inputs.messages = *std::move(messages);
  inputs.add_generation_prompt = open_turn;
  const auto text = chat_->Render(inputs);
  if (!text) return tl::unexpected(text.error().WithContext(chat_->origin()));
  return tokenizer_->Encode(text->bytes(), {.add_special_tokens = false});  // the template has them
}

Result<std::vector<Sample>> SampleMaker::Make(const std::filesystem::path& dataset,
                                              uint64_t max_samples, uint32_t max_tokens) const {
  const auto rows = ReadDataset(dataset, max_samples);
  if (!rows) return tl::unexpected(rows.error());
  std::vector<Sample> samples;
  for (size_t i = 0; i < rows->size(); ++i) {
    auto tokens = TokensOf((*rows)[i], /*open_turn=*/false);
    if (!tokens) {
      return tl::unexpected(
          tokens.error().WithContext(fmt::format("{}: row {}", dataset.string(), i + 1)));
    }
    const size_t pieces = (*rows)[i].is_plain_text ? max_samples : 1;
    for (size_t piece = 0; piece < pieces && piece * max_tokens + 1 < tokens->size(); ++piece) {
      const auto begin = tokens->begin() + static_cast<ptrdiff_t>(piece * max_tokens);
      const auto left = static_cast<size_t>(tokens->end() - begin);
      samples.push_back({.tokens = Tokens(begin, begin + static_cast<ptrdiff_t>(
                                                             std::min<size_t>(left, max_tokens)))});
    }
  }
  if (samples.empty()) {
    return Error(Code::kDataError,
                 fmt::format("{}: no sample has two tokens or more", dataset.string()));
  }
  return samples;
}

Result<Sample> SampleMaker::PromptOf(const DatasetRow& row) const {
  if (row.answer.empty()) return Error(Code::kDataError, "a prompt needs \"answer\"");
  auto tokens = TokensOf(row, /*open_turn=*/true);
  if (!tokens) return tl::unexpected(tokens.error());
  const auto answer = tokenizer_->Encode(row.answer, {.add_special_tokens = false});
  if (!answer) return tl::unexpected(answer.error());
  Sample sample;
  sample.tokens = *std::move(tokens);
  sample.tokens.insert(sample.tokens.end(), answer->begin(), answer->end());
  sample.num_answer_tokens = static_cast<uint32_t>(answer->size());
  sample.length = row.length;
  return sample;
}

Result<SampleMaker::Prompts> SampleMaker::MakePrompts(const std::filesystem::path& dataset,
                                                      uint64_t max_per_length,
                                                      uint32_t max_tokens) const {
  const auto rows = ReadDataset(dataset, 0);
  if (!rows) return tl::unexpected(rows.error());
  Prompts prompts;
  std::map<uint32_t, uint64_t> num_of_length;
  for (size_t i = 0; i < rows->size(); ++i) {
    const DatasetRow& row = (*rows)[i];
    if (num_of_length[row.length] == max_per_length) continue;
    auto sample = PromptOf(row);
    if (!sample) {
      return tl::unexpected(
          sample.error().WithContext(fmt::format("{}: row {}", dataset.string(), i + 1)));
    }
    if (sample->tokens.size() > max_tokens) {
      ++prompts.num_too_long;
      continue;
    }
    ++num_of_length[row.length];
    prompts.samples.push_back(*std::move(sample));
  }
  if (prompts.samples.empty()) {
    return Error(Code::kDataError, fmt::format("{}: no prompt fits into the model's {} positions",
                                               dataset.string(), max_tokens));
  }
  return prompts;
}

}  // namespace kvs
