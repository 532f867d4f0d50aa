// RunCalibrate: dataset -> steps -> statistics -> scales -> model directory.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <memory>
#include <optional>
#include <system_error>
#include <utility>
#include <vector>

#include "base/log.h"
#include "base/progress.h"
#include "config/environment.h"
#include "hub/model_source.h"
#include "model/kv_cache.h"
#include "model/kv_calibration.h"
#include "model/kv_scale_artifact.h"
#include "quality/calibrate_report.h"
#include "quality/calibration_state.h"
#include "quality/quality.h"
#include "quality/samples.h"

namespace kvs {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr uint32_t kCalibrationBlockSize = 16;
constexpr uint32_t kMaxNumSeqs = 256;
// How far it came is saved so often, and no oftener than that it takes a fiftieth of the time.
constexpr std::chrono::seconds kSaveInterval(1);
constexpr int kSaveShare = 50;

// Tokens whose distribution is gathered, which costs a GPU a quarter of its speed. minmax needs the
// largest values alone: there it is for the errors that are reported.
uint64_t NumCountedTokens(KvScaleFit observer) {
  return observer == KvScaleFit::kMinMax ? 32768 : UINT64_MAX;
}

// Identifies a file's content without reading it.
std::string StampOf(const fs::path& path) {
  std::error_code ignored;
  const fs::path real = fs::canonical(path, ignored);
  return fmt::format("{} {} {}", real.string(), fs::file_size(real, ignored),
                     fs::last_write_time(real, ignored).time_since_epoch().count());
}

std::string JobOf(const CalibrateCommand& command, const fs::path& model_dir) {
  std::string job =
      fmt::format("dataset {}; samples {}; tokens {}; counted {}; model {}",
                  StampOf(command.dataset), command.num_samples, command.max_seq_len,
                  NumCountedTokens(command.observer), StampOf(model_dir / "config.json"));
  std::error_code ignored;
  std::vector<std::string> weights;
  for (const auto& entry : fs::directory_iterator(model_dir, ignored)) {
    if (entry.path().extension() == ".safetensors") weights.push_back(StampOf(entry.path()));
  }
  std::sort(weights.begin(), weights.end());
  for (const std::string& weight : weights) job += "; " + weight;
  return job;
}

Result<std::unique_ptr<Model>> LoadModel(const fs::path& model_dir, const ModelConfig& config,
                                         uint32_t step_tokens, uint32_t max_seq_len,
                                         Backend& backend) {
  ProgressBar progress("Loading weights");
  ModelLoadOptions load;
  load.model_dir = model_dir;
  load.dtype = config.checkpoint_dtype;
  load.kv_dtype = KvCacheDTypeOf(load.dtype);
  load.num_blocks = step_tokens / kCalibrationBlockSize + kMaxNumSeqs;
  load.limits = {.max_num_seqs = kMaxNumSeqs,
                 .max_num_batched_tokens = step_tokens,
                 .max_model_len = max_seq_len,
                 .max_num_logits_rows = kMaxNumSeqs,
                 .block_size = kCalibrationBlockSize};
  load.progress = [&progress](uint64_t done, uint64_t total) { progress.Update(done, total); };
  return Model::Load(config, load, backend);
}

// Computes samples, several a step, and gathers what their keys and values reach.
class Calibration {
 public:
  Calibration(std::vector<Sample> samples, uint32_t step_tokens, fs::path state_path,
              const CalibrateCommand& command, Model& model, Backend& backend)
      : samples_(std::move(samples)),
        step_tokens_(step_tokens),
        state_path_(std::move(state_path)),
        compare_prefill_(command.compare_prefill),
        num_counted_tokens_(NumCountedTokens(command.observer)),
        model_(model),
        backend_(backend) {}

  // Fills in what Run computed and how long it took.
  void Report(const CalibrationState& state, CalibrateReport& report) const {
    report.num_tokens_computed = state.num_tokens_done - num_tokens_before_;
    report.seconds = std::chrono::duration<double>(took_ - compared_).count();
    report.prefill_seconds = std::chrono::duration<double>(prefill_).count();
  }

  Result<void> Run(CalibrationState& state) {
    const Clock::time_point started = Clock::now();
    num_tokens_before_ = state.num_tokens_done;
    Result<void> done = RunObserved(state);
    model_.kv_cache().Observe(nullptr);
    took_ = Clock::now() - started;
    return done;
  }

 private:
  Result<void> RunObserved(CalibrationState& state) {
    ProgressBar progress("Calibrating", "samples", 1.0);
    Clock::time_point next_save = Clock::now() + kSaveInterval;
    Batch batch(kCalibrationBlockSize);
    while (state.num_samples_done < samples_.size()) {
      KVS_RETURN_IF_ERROR(ChooseObserver(state));
      FillBatch(state.num_samples_done, batch);
      if (compare_prefill_) TimePrefill(batch);
      model_.Forward(batch.plan());
      state.num_samples_done += batch.num_sequences();
      state.num_tokens_done += batch.num_tokens();
      if (const Clock::time_point begin = Clock::now(); begin >= next_save) {
        observer_->Collect(state.statistics, backend_);
        KVS_RETURN_IF_ERROR(SaveCalibrationState(state_path_, state));
        LOG_INFO("calibrated on {} of {} samples", state.num_samples_done, samples_.size());
        const Clock::time_point end = Clock::now();
        next_save = end + std::max<Clock::duration>(kSaveInterval, kSaveShare * (end - begin));
      }
      progress.Update(state.num_samples_done, samples_.size());
    }
    if (observer_) observer_->Collect(state.statistics, backend_);
    return SaveCalibrationState(state_path_, state);
  }

  // One with counts until enough are there, then one without.
  Result<void> ChooseObserver(CalibrationState& state) {
    const bool with_counts = state.num_tokens_done < num_counted_tokens_;
    if (observer_ && observer_->has_counts() == with_counts) return {};
    if (observer_) observer_->Collect(state.statistics, backend_);
    model_.kv_cache().Observe(nullptr);
    auto observer = KvObserver::Make(model_.kv_layout(), with_counts, backend_);
    if (!observer) return tl::unexpected(observer.error());
    observer_ = *std::move(observer);
    model_.kv_cache().Observe(&*observer_);
    return {};
  }

  // Computed once more before, so that neither side pays for what happens once for each shape.
  void TimePrefill(Batch& batch) {
    backend_.Synchronize();  // of the step before
    const Clock::time_point entered = Clock::now();
    model_.kv_cache().Observe(nullptr);
    model_.Forward(batch.plan());
    backend_.Synchronize();
    const Clock::time_point begin = Clock::now();
    model_.Forward(batch.plan());
    backend_.Synchronize();
    prefill_ += Clock::now() - begin;
    model_.kv_cache().Observe(&*observer_);
    compared_ += Clock::now() - entered;
  }

  // As many samples as fit into a step; one always does.
  void FillBatch(size_t first, Batch& batch) const {
    batch.Clear();
    for (size_t i = first; i < samples_.size() && batch.num_sequences() < kMaxNumSeqs; ++i) {
      const Tokens& tokens = samples_[i].tokens;
      if (batch.num_tokens() + tokens.size() > step_tokens_) break;
      batch.Add(tokens);
    }
  }

  const std::vector<Sample> samples_;
  const uint32_t step_tokens_;
  const fs::path state_path_;
  const bool compare_prefill_;
  const uint64_t num_counted_tokens_;
  Model& model_;
  Backend& backend_;
  std::optional<KvObserver> observer_;
  uint64_t num_tokens_before_ = 0;  // computed by an earlier, interrupted run
  Clock::duration took_{};
  // Time spent without statistics, and how much of it counts.
  Clock::duration compared_{};
  Clock::duration prefill_{};
};

// The state of an earlier, interrupted run of the same job, else a fresh one.
CalibrationState Resume(const fs::path& state_path, std::string job, const KvLayout& layout) {
  CalibrationState state{.job = std::move(job), .statistics = KvStatistics(layout)};
  auto saved = LoadCalibrationState(state_path, state);
  if (!saved) return state;
  LOG_INFO("going on from '{}': {} samples are done", state_path.string(), saved->num_samples_done);
  return *std::move(saved);
}

}  // namespace

Result<std::string> RunCalibrate(const CalibrateCommand& command, Backend& backend) {
  auto source = ModelSource::Open(command.model, command.revision, ModelFiles::kDescription,
                                  ProcessEnvironment());
  if (!source) return tl::unexpected(source.error());
  KVS_RETURN_IF_ERROR(source->FetchWeights());
  const std::filesystem::path& model_dir = source->dir();
  KVS_RETURN_IF_ERROR(CheckArtifact(model_dir, command.output_dir));
  const auto config = ReadModelConfig(model_dir);
  if (!config) return tl::unexpected(config.error());
  const uint32_t max_seq_len = std::min(command.max_seq_len, config->max_position_embeddings);
  const uint32_t step_tokens = std::max(command.max_num_batched_tokens, max_seq_len);
  const auto maker = SampleMaker::Load(model_dir);
  if (!maker) return tl::unexpected(maker.error());
  auto samples = maker->Make(command.dataset, command.num_samples, max_seq_len);
  if (!samples) return tl::unexpected(samples.error());
  const auto model = LoadModel(model_dir, *config, step_tokens, max_seq_len, backend);
  if (!model) return tl::unexpected(model.error());

  fs::path state_path = PartialDirOf(command.output_dir).replace_extension(".progress");
  CalibrationState state = Resume(state_path, JobOf(command, model_dir), (*model)->kv_layout());
  CalibrateReport report;
  Calibration run(*std::move(samples), step_tokens, state_path, command, **model, backend);
  KVS_RETURN_IF_ERROR(run.Run(state));
  run.Report(state, report);

  const auto fitted = FitKvScales(
      state.statistics,
      {.fit = command.observer, .per_head = command.per_head, .percentile = command.percentile});
  if (!fitted) return tl::unexpected(fitted.error());
  report.scales = RoundUpScales(*fitted, config->checkpoint_dtype);
  KVS_RETURN_IF_ERROR(WriteKvScaleArtifact({.model_dir = model_dir,
                                            .output_dir = command.output_dir,
                                            .layout = (*model)->kv_layout(),
                                            .scales = report.scales,
                                            .per_head = command.per_head,
                                            .dtype = config->checkpoint_dtype,
                                            .observer = command.observer == KvScaleFit::kMinMax
                                                            ? "static_minmax"
                                                            : ObserverName(command.observer)}));
  std::error_code ignored;  // it names this job, so a later one would not use it
  fs::remove(state_path, ignored);
  return command.json ? CalibrateReportJson(command, state, report)
                      : CalibrateReportText(command, state, report);
}

}  // namespace kvs
