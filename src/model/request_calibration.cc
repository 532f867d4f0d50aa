#include "model/request_calibration.h"

#include <fmt/format.h>

#include <chrono>
#include <string>
#include <utility>

#include "base/log.h"
#include "kvserve/check.h"
#include "model/kv_calibration.h"
#include "model/kv_scale_artifact.h"

namespace kvs {

Result<std::unique_ptr<RequestCalibration>> RequestCalibration::Begin(
    const RequestCalibrationOptions& options, Model& model, Backend& backend) {
  if (!options.output_dir.empty()) {
    const auto writable = CheckArtifact(options.model_dir, options.output_dir);
    if (!writable) return tl::unexpected(writable.error().WithContext("--kv-scales-output-dir"));
  }
  const KvCache& cache = model.kv_cache();
  KVS_CHECK(IsFp8(cache.layout().dtype));
  std::unique_ptr<RequestCalibration> calibration(
      new RequestCalibration(options, cache.layout(), cache.num_blocks(), model, backend));
  const KvLayout bf16 = cache.layout().As(KvCacheDType::kBf16);
  auto observer = KvObserver::Make(bf16, /*with_counts=*/false, backend);
  if (!observer) return tl::unexpected(observer.error());
  calibration->observer_ = *std::move(observer);
  KVS_RETURN_IF_ERROR(calibration->Replace(bf16, options.num_bf16_blocks, {}));
  KvScaleSet none = KvScaleSet::Default(bf16);
  none.source = KvScaleSource::kAwaited;
  model.kv_cache().SetScales(none, backend);
  model.kv_cache().Observe(&*calibration->observer_);
  LOG_INFO("KV scales: the cache is bfloat16 until {} requests have ended", options.num_requests);
  return calibration;
}

RequestCalibration::~RequestCalibration() {
  if (writer_.joinable()) writer_.join();
}

Result<void> RequestCalibration::Replace(const KvLayout& layout, uint32_t num_blocks,
                                         const std::vector<uint32_t>& bf16_layers) {
  KvCache& cache = model_.kv_cache();
  // The memory is given back first: there is no room for two.
  auto smallest = KvCache::Make(cache.layout().As(KvCacheDType::kBf16), 1, {}, backend_);
  if (!smallest) return tl::unexpected(smallest.error());
  backend_.Synchronize();
  cache = *std::move(smallest);
  auto whole = KvCache::Make(layout, num_blocks, bf16_layers, backend_);
  if (!whole) return tl::unexpected(whole.error());
  cache = *std::move(whole);
  return {};
}

bool RequestCalibration::Switch() {
  const auto started = std::chrono::steady_clock::now();
  KvStatistics statistics(layout_);
  observer_->Collect(statistics, backend_);
  const auto fitted =
      FitKvScales(statistics, {.per_head = options_.per_head, .dtype = layout_.dtype});
  if (!fitted) {
    LOG_ERROR("{}; the cache stays bfloat16 for {} further requests", fitted.error().message(),
              options_.num_requests);
    return false;
  }
  KvScaleSet set;
  set.source = KvScaleSource::kRequests;
  set.scales = RoundUpScales(*fitted, options_.checkpoint_dtype);
  const std::string name = fmt::format("{} requests", options_.num_requests);
  set.origins.assign(layout_.num_layers, {name, name});
  const Result<void> replaced = Replace(layout_, num_blocks_, options_.bf16_layers);
  if (!replaced) LOG_ERROR("{}", replaced.error().message());
  KVS_CHECK(replaced);  // the old cache is gone: nothing can be served
  KvCache& cache = model_.kv_cache();
  cache.SetScales(set, backend_);
  observer_.reset();
  LogKvScales(cache);
  LOG_INFO("KV scales: switched in {:.3f} s",
           std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count());
  if (!options_.output_dir.empty()) {  // may copy all of the weights: not on this thread
    writer_ = std::thread([this, scales = set.scales] { WriteArtifact(scales); });
  }
  return true;
}

void RequestCalibration::WriteArtifact(const KvScales& scales) {
  const auto written = WriteKvScaleArtifact({.model_dir = options_.model_dir,
                                             .output_dir = options_.output_dir,
                                             .layout = layout_,
                                             .scales = scales,
                                             .per_head = options_.per_head,
                                             .dtype = options_.checkpoint_dtype,
                                             .observer = "static_minmax"});
  if (written) {
    LOG_INFO("KV scales: '{}' is the model with them", options_.output_dir.string());
  } else {
    LOG_ERROR("--kv-scales-output-dir: {}", written.error().message());
  }
}

}  // namespace kvs
