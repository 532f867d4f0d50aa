// --calibrate-on-requests: a model serves with an observed BF16 cache until it has seen enough, and
// with an FP8 cache and the scales that fit what it saw from then on.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "kvserve/backend.h"
#include "kvserve/dtype.h"
#include "kvserve/status.h"
#include "model/kv_cache.h"
#include "model/kv_stats.h"
#include "model/model.h"

namespace kvs {

struct RequestCalibrationOptions {
  uint32_t num_requests = 0;               // for what is logged and kept as the scales' origin
  uint32_t num_bf16_blocks = 0;            // usable ones until the switch
  std::vector<uint32_t> bf16_layers = {};  // of the FP8 cache; ascending
  bool per_head = false;
  std::filesystem::path model_dir;
  std::filesystem::path output_dir =
      {};  // the model with its scales is written there; empty: nowhere
  DType checkpoint_dtype = DType::kBf16;
};

class RequestCalibration {
 public:
  // Replaces the model's FP8 cache, in which nothing was stored, by a BF16 one. `model` and
  // `backend` outlive it. kOsError; with an output directory the errors of CheckArtifact.
  static Result<std::unique_ptr<RequestCalibration>> Begin(const RequestCalibrationOptions& options,
                                                           Model& model, Backend& backend);
  ~RequestCalibration();  // waits until the directory is written

  // Finds the scales and makes the cache FP8 again, empty, as large as it was. False, with the
  // reason in the log, when keys or values were not finite: then the cache stays as it is and
  // observation begins anew. Between two steps, on the thread that runs them.
  bool Switch();

 private:
  RequestCalibration(const RequestCalibrationOptions& options, const KvLayout& layout,
                     uint32_t num_blocks, Model& model, Backend& backend)
      : options_(options),
        layout_(layout),
        num_blocks_(num_blocks),
        model_(model),
        backend_(backend) {}
  // Gives the memory of the model's cache back and takes that of another. kOsError.
  Result<void> Replace(const KvLayout& layout, uint32_t num_blocks,
                       const std::vector<uint32_t>& bf16_layers);
  void WriteArtifact(const KvScales& scales);

  const RequestCalibrationOptions options_;
  const KvLayout layout_;  // of the FP8 cache
  const uint32_t num_blocks_;
  Model& model_;
  Backend& backend_;
  std::optional<KvObserver> observer_;
  std::thread writer_;
};

}  // namespace kvs
