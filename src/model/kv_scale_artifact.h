// A model directory with scales: the original weights, a shard of scale tensors, and a config.json
// that announces them, as compressed-tensors names them. kvserve, vLLM and SGLang load it directly.
#pragma once

#include <filesystem>
#include <string>

#include "kvserve/dtype.h"
#include "kvserve/kv_layout.h"
#include "kvserve/status.h"
#include "model/kv_scales.h"

namespace kvs {

struct KvScaleArtifact {
  std::filesystem::path model_dir;
  std::filesystem::path output_dir;
  KvLayout layout;
  KvScales scales;
  bool per_head = false;
  DType dtype = DType::kBf16;  // of the scale tensors: the checkpoint's, as llm-compressor writes
  std::string observer;        // in compressed-tensors' words: for the reader of config.json
};

// Each scale rounded up to a value of `dtype`, so that what it covers stays covered. An artifact
// holds these.
KvScales RoundUpScales(const KvScales& scales, DType dtype);

// Where the artifact grows until it is complete: beside the output directory, so that one rename
// makes it appear.
std::filesystem::path PartialDirOf(const std::filesystem::path& output_dir);

// Makes the output directory's parent. kInvalidArgument when the directory itself is there and not
// empty; kDataError when the model's
// weights hold scales already, or its quantization leaves no place for a scheme of the KV cache.
Result<void> CheckArtifact(const std::filesystem::path& model_dir,
                           const std::filesystem::path& output_dir);

// Writes the artifact into PartialDirOf, config.json last, syncs it, removes what else is there,
// and renames: a crash leaves the partial directory, which does not load, or the whole artifact.
// Weights are hard links where the file system allows, else copies. Files of sub-folders are not
// taken over. The errors of CheckArtifact; kOsError names the file.
Result<void> WriteKvScaleArtifact(const KvScaleArtifact& artifact);

}  // namespace kvs
