// RunEval: the same samples through every cache, and what came of it.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <memory>
#include <system_error>
#include <utility>
#include <vector>

#include "base/progress.h"
#include "config/environment.h"
#include "hub/model_source.h"
#include "quality/eval_report.h"
#include "quality/quality.h"
#include "quality/samples.h"
#include "quality/score.h"
#include "quality/variant.h"

namespace kvs {
namespace {

constexpr uint32_t kEvalBlockSize = 16;
constexpr uint32_t kStepTokens = 256;

struct Work {
  std::vector<Sample> texts;
  std::vector<Sample> prompts;
  uint64_t num_too_long = 0;

  size_t size() const { return texts.size() + prompts.size(); }
  uint32_t MostTokens() const {
    size_t most = 0;
    for (const auto* samples : {&texts, &prompts}) {
      for (const Sample& sample : *samples) most = std::max(most, sample.tokens.size());
    }
    return static_cast<uint32_t>(most);
  }
};

Result<Work> MakeWork(const EvalCommand& command, const std::filesystem::path& model_dir,
                      const ModelConfig& config) {
  const auto maker = SampleMaker::Load(model_dir);
  if (!maker) return tl::unexpected(maker.error());
  Work work;
  if (!command.text.empty()) {
    auto texts = maker->Make(command.text, command.num_samples,
                             std::min(command.max_seq_len, config.max_position_embeddings));
    if (!texts) return tl::unexpected(texts.error());
    work.texts = *std::move(texts);
  }
  if (command.passkey.empty()) return work;
  auto prompts =
      maker->MakePrompts(command.passkey, command.num_samples, config.max_position_embeddings);
  if (!prompts) return tl::unexpected(prompts.error());
  work.prompts = std::move(prompts->samples);
  work.num_too_long = prompts->num_too_long;
  for (const Sample& sample : work.prompts) {
    if (sample.num_answer_tokens <= kStepTokens) continue;
    return Error(Code::kDataError,
                 fmt::format("{}: an answer of {} tokens; at most {}", command.passkey,
                             sample.num_answer_tokens, kStepTokens));
  }
  return work;
}

// The model with a cache of its own type, in which nothing but random tokens is ever computed.
ModelLoadOptions LoadOptionsOf(const std::filesystem::path& model_dir, const ModelConfig& config,
                               uint32_t max_tokens) {
  ModelLoadOptions load;
  load.model_dir = model_dir;
  load.dtype = config.checkpoint_dtype;
  load.kv_dtype = KvCacheDTypeOf(load.dtype);
  load.num_blocks = std::max(max_tokens, kStepTokens) / kEvalBlockSize + 1;
  load.limits = {.max_num_seqs = 1,
                 .max_num_batched_tokens = kStepTokens,
                 .max_model_len = max_tokens,
                 .max_num_logits_rows = kStepTokens,
                 .block_size = kEvalBlockSize};
  return load;
}

void ScoreAll(const Work& work, Scorer& scorer) {
  ProgressBar progress("Evaluating", "samples", 1.0);
  uint64_t done = 0;
  for (const Sample& sample : work.texts) {
    scorer.ScoreText(sample);
    progress.Update(++done, work.size());
  }
  for (const Sample& sample : work.prompts) {
    scorer.ScorePasskey(sample);
    progress.Update(++done, work.size());
  }
  scorer.CollectStatistics();
}

Result<void> WriteFile(const std::string& path, const std::string& content, const char* flag) {
  if (path.empty()) return {};
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << content;
  file.close();
  if (file) return {};
  return Error(
      Code::kOsError,
      fmt::format("{}: cannot write '{}': {}", flag, path, std::generic_category().message(errno)),
      flag);
}

}  // namespace

Result<std::string> RunEval(const EvalCommand& command, Backend& backend) {
  auto source = ModelSource::Open(command.model, command.revision, ModelFiles::kDescription,
                                  ProcessEnvironment());
  if (!source) return tl::unexpected(source.error());
  KVS_RETURN_IF_ERROR(source->FetchWeights());
  const std::filesystem::path& model_dir = source->dir();
  const auto config = ReadModelConfig(model_dir);
  if (!config) return tl::unexpected(config.error());
  const auto work = MakeWork(command, model_dir, *config);
  if (!work) return tl::unexpected(work.error());
  const ModelLoadOptions load = LoadOptionsOf(model_dir, *config, work->MostTokens());
  const auto model = Model::Load(*config, load, backend);
  if (!model) return tl::unexpected(model.error());
  auto variants = MakeVariants(command, load, load.num_blocks, **model, backend);
  if (!variants) return tl::unexpected(variants.error());

  Scorer scorer({kEvalBlockSize, kStepTokens, kStepTokens}, *variants, **model, backend);
  ScoreAll(*work, scorer);

  const std::string json = EvalReportJson(*variants);
  KVS_RETURN_IF_ERROR(WriteFile(command.output_json, json, "--output-json"));
  KVS_RETURN_IF_ERROR(WriteFile(command.plot, EvalPlot(*variants), "--plot"));
  if (command.json) return json;
  std::string text = EvalReportText(*variants);
  if (work->num_too_long > 0) {
    text += fmt::format("\n{} prompts of {} are longer than the model's {} positions: left out\n",
                        work->num_too_long, command.passkey, config->max_position_embeddings);
  }
  return text;
}

}  // namespace kvs
