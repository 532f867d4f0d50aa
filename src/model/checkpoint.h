// The weights of a Hugging Face directory: model.safetensors, or the shards that
// model.safetensors.index.json lists.
#pragma once

#include <cstddef>
#include <deque>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "model/read_ahead.h"
#include "model/safetensors.h"
#include "model/weight_source.h"

namespace kvs {

inline constexpr char kSingleFile[] = "model.safetensors";
inline constexpr char kIndexFile[] = "model.safetensors.index.json";

class Checkpoint : public WeightSource {
 public:
  // kNotFound when there are no weight files or a shard is missing; kDataError for a damaged one.
  static Result<std::unique_ptr<Checkpoint>> Open(const std::filesystem::path& model_dir);

  // A matrix stored as FP8 is handed out dequantized, as float32.
  Result<HostMatrix> Matrix(const std::string& name, uint32_t rows, uint32_t cols) override;
  std::string WhyNotFp8(const std::string& name, uint32_t rows, uint32_t cols) const override;
  Result<HostMatrix> Fp8Matrix(const std::string& name, uint32_t rows, uint32_t cols) override;
  uint32_t num_dequantized() const override { return num_dequantized_; }
  Result<HostMatrix> Vector(const std::string& name, uint32_t size) override;
  void ReadAhead(std::span<const std::string> names) override;
  void Release() override;
  Result<void> Finish(bool (*may_be_unused)(std::string_view name)) override;

  // Every tensor, sorted.
  std::vector<std::string> Names() const;
  // All elements of a small tensor of any shape, at most `most` of them, as float32. It counts as
  // used. kDataError for a type that is not a number's.
  Result<std::vector<float>> Values(const std::string& name, size_t most);

  // Element type of the first tensor, by name, that weights can be read from.
  Result<DType> FirstDType() const;

 private:
  struct Location {
    const SafetensorsFile* file;
    const StoredTensor* tensor;
  };

  explicit Checkpoint(std::filesystem::path model_dir) : model_dir_(std::move(model_dir)) {}
  Result<const SafetensorsFile*> OpenFile(const std::string& name);
  Result<void> OpenShards(const std::filesystem::path& index_path);
  // Checks that the tensor is there in this shape, and marks it as used.
  Result<Location> Find(const std::string& name, const std::vector<uint64_t>& shape);
  bool IsFp8(const std::string& name) const;
  // The tensor that holds the scales of an FP8 matrix; nothing when there is none.
  std::optional<std::string> ScalesOf(const std::string& name) const;
  Result<HostMatrix> Dequantized(const std::string& name, uint32_t rows, uint32_t cols);
  Result<HostMatrix> Read(const std::string& name, const std::vector<uint64_t>& shape);

  std::filesystem::path model_dir_;
  std::map<std::string, SafetensorsFile> files_;  // by file name
  std::map<std::string, Location> tensors_;
  std::unordered_set<std::string> used_;
  std::vector<Location> handed_out_;
  std::deque<std::vector<std::byte>> aligned_copies_;  // of tensors that lie at odd addresses
  std::vector<std::unique_ptr<float[]>> dequantized_;
  std::deque<std::vector<float>> row_scales_;   // of FP8 matrices
  uint32_t num_dequantized_ = 0;                // ever
  std::unique_ptr<kvs::ReadAhead> read_ahead_;  // goes before the files
};

}  // namespace kvs
