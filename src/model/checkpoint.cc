#include "model/checkpoint.h"

#include <fmt/format.h>

#include <cstring>
#include <optional>
#include <set>
#include <system_error>
#include <utility>

#include "kvserve/float_bits.h"
#include "model/fp8_weights.h"

namespace kvs {
namespace {

constexpr size_t kShardsMax = 1000;
constexpr JsonLimits kIndexLimits = {.max_bytes = uint64_t{64} << 20, .max_depth = 4};

// A shard's name comes from the index and must not lead out of the model directory.
bool IsPlainFileName(const std::string& name) {
  return !name.empty() && name != "." && name != ".." && name.find('/') == std::string::npos &&
         name.find('\0') == std::string::npos;
}

// Beside "NAME.weight".
std::string Fp8ScaleName(const std::string& weight) {
  return weight.substr(0, weight.rfind(".weight")) + ".weight_scale";
}
std::string Fp8InputScaleName(const std::string& weight) {
  return weight.substr(0, weight.rfind(".weight")) + ".input_scale";
}

// How a number of a scale's or zero point's type is read.
struct NumberReader {
  size_t bytes;
  float (*load)(const std::byte* at);
};

template <class T>
T LoadAs(const std::byte* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

template <class T>
NumberReader NumberType() {
  return {sizeof(T), [](const std::byte* at) { return static_cast<float>(LoadAs<T>(at)); }};
}

std::optional<NumberReader> ElementOf(std::string_view dtype_name) {
  if (dtype_name == "F32") return NumberType<float>();
  if (dtype_name == "F64") return NumberType<double>();
  if (dtype_name == "I8") return NumberType<int8_t>();
  if (dtype_name == "U8") return NumberType<uint8_t>();
  if (dtype_name == "I32") return NumberType<int32_t>();
  if (dtype_name == "I64") return NumberType<int64_t>();
  if (dtype_name == "BF16") {
    return NumberReader{2, [](const std::byte* at) { return Bf16ToFloat(LoadAs<uint16_t>(at)); }};
  }
  if (dtype_name == "F16") {
    return NumberReader{2, [](const std::byte* at) { return F16ToFloat(LoadAs<uint16_t>(at)); }};
  }
  if (dtype_name == "F8_E4M3") {
    return NumberReader{1, [](const std::byte* at) { return F8E4M3ToFloat(LoadAs<uint8_t>(at)); }};
  }
  return std::nullopt;
}

}  // namespace

Result<std::unique_ptr<Checkpoint>> Checkpoint::Open(const std::filesystem::path& model_dir) {
  std::unique_ptr<Checkpoint> checkpoint(new Checkpoint(model_dir));
  std::error_code ignored;
  if (std::filesystem::exists(model_dir / kSingleFile, ignored)) {
    auto file = checkpoint->OpenFile(kSingleFile);
    if (!file) return tl::unexpected(file.error());
    for (const auto& [name, tensor] : (*file)->tensors()) {
      checkpoint->tensors_.emplace(name, Location{*file, &tensor});
    }
    return checkpoint;
  }
  if (!std::filesystem::exists(model_dir / kIndexFile, ignored)) {
    return Error(Code::kNotFound, fmt::format("{}: no weights: neither {} nor {} is there",
                                              model_dir.string(), kSingleFile, kIndexFile));
  }
  KVS_RETURN_IF_ERROR(checkpoint->OpenShards(model_dir / kIndexFile));
  return checkpoint;
}

Result<const SafetensorsFile*> Checkpoint::OpenFile(const std::string& name) {
  const auto known = files_.find(name);
  if (known != files_.end()) return &known->second;
  auto file = SafetensorsFile::Open(model_dir_ / name);
  if (!file) return tl::unexpected(file.error());
  return &files_.emplace(name, std::move(*file)).first->second;
}

Result<void> Checkpoint::OpenShards(const std::filesystem::path& index_path) {
  auto index = ReadJsonObject(index_path, kIndexLimits);
  if (!index) return tl::unexpected(index.error());
  const std::string where = index_path.string();
  const auto map = index->find("weight_map");
  if (map == index->end() || !map->is_object() || map->empty()) {
    return Error(Code::kDataError, fmt::format("{}: weight_map is missing or empty", where));
  }
  std::set<std::string> shard_names;
  for (const auto& [name, shard] : map->items()) {
    const std::string shown = name.substr(0, 200);
    if (!shard.is_string() || !IsPlainFileName(shard.get_ref<const std::string&>())) {
      return Error(
          Code::kDataError,
          fmt::format("{}: tensor '{}' is said to be in {}; expected the name of a file in "
                      "the same directory",
                      where, shown, shard.dump(-1, ' ', true).substr(0, 200)));
    }
    const auto& file_name = shard.get_ref<const std::string&>();
    shard_names.insert(file_name);
    if (shard_names.size() > kShardsMax) {
      return Error(Code::kDataError, fmt::format("{}: more than {} shards", where, kShardsMax));
    }
    auto file = OpenFile(file_name);
    if (!file) return tl::unexpected(file.error().WithContext(where));
    const auto tensor = (*file)->tensors().find(name);
    if (tensor == (*file)->tensors().end()) {
      return Error(Code::kDataError,
                   fmt::format("{}: tensor '{}' is not in {}", where, shown, file_name));
    }
    tensors_.emplace(name, Location{*file, &tensor->second});
  }
  return {};
}

Result<HostMatrix> Checkpoint::Matrix(const std::string& name, uint32_t rows, uint32_t cols) {
  if (IsFp8(name)) return Dequantized(name, rows, cols);
  auto matrix = Read(name, {rows, cols});
  if (matrix) {
    matrix->rows = rows;
    matrix->cols = cols;
  }
  return matrix;
}

Result<HostMatrix> Checkpoint::Vector(const std::string& name, uint32_t size) {
  auto vector = Read(name, {size});
  if (vector) {
    vector->rows = 1;
    vector->cols = size;
  }
  return vector;
}

bool Checkpoint::IsFp8(const std::string& name) const {
  const auto found = tensors_.find(name);
  return found != tensors_.end() && found->second.tensor->dtype_name == "F8_E4M3";
}

std::optional<std::string> Checkpoint::ScalesOf(const std::string& name) const {
  const std::string scale_name = Fp8ScaleName(name);
  for (const std::string& known : {scale_name, scale_name + "_inv"}) {  // the latter is Qwen's
    if (tensors_.count(known) != 0) return known;
  }
  return std::nullopt;
}

std::string Checkpoint::WhyNotFp8(const std::string& name, uint32_t rows, uint32_t cols) const {
  if (!IsFp8(name)) return WeightSource::WhyNotFp8(name, rows, cols);
  const auto scales = ScalesOf(name);
  if (!scales) return "scales are missing";
  const auto layout = ScaleLayoutOf(tensors_.at(*scales).tensor->shape, rows, cols);
  if (layout && layout->cols == cols) return "";
  return fmt::format("there is a scale for each {} x {} of them", kFp8Square, kFp8Square);
}

Result<HostMatrix> Checkpoint::Fp8Matrix(const std::string& name, uint32_t rows, uint32_t cols) {
  const auto location = Find(name, {rows, cols});
  if (!location) return tl::unexpected(location.error());
  auto scales = Values(*ScalesOf(name), rows);
  if (!scales) return tl::unexpected(scales.error());
  scales->resize(rows, scales->front());
  HostMatrix matrix{location->file->Data(*location->tensor), DType::kF8E4M3, rows, cols};
  matrix.row_scales = row_scales_.emplace_back(*std::move(scales)).data();
  const std::string input_name = Fp8InputScaleName(name);
  if (tensors_.count(input_name) != 0) {
    const auto input_scale = Values(input_name, 1);
    if (!input_scale) return tl::unexpected(input_scale.error());
    if (!input_scale->empty()) matrix.input_scale = input_scale->front();
  }
  return matrix;
}

Result<HostMatrix> Checkpoint::Dequantized(const std::string& name, uint32_t rows, uint32_t cols) {
  const auto location = Find(name, {rows, cols});
  if (!location) return tl::unexpected(location.error());
  const auto found = ScalesOf(name);
  if (!found) {
    return Error(Code::kDataError,
                 fmt::format("{}: tensor '{}' is stored as F8_E4M3, but '{}' is missing",
                             location->file->path(), name, Fp8ScaleName(name)));
  }
  const auto scale = tensors_.find(*found);
  const auto layout = ScaleLayoutOf(scale->second.tensor->shape, rows, cols);
  if (!layout) {
    return Error(Code::kDataError,
                 fmt::format("{}: tensor '{}' has shape [{}]; supported for {} rows and {} columns "
                             "are one scale, one for each row, or one for each {} x {}",
                             scale->second.file->path(), *found,
                             fmt::join(scale->second.tensor->shape, ", "), rows, cols, kFp8Square,
                             kFp8Square));
  }
  const auto scales = Values(*found, size_t{rows} * cols);
  if (!scales) return tl::unexpected(scales.error());
  used_.insert(Fp8InputScaleName(name));  // inputs stay as they are
  const auto* codes = reinterpret_cast<const uint8_t*>(location->file->Data(*location->tensor));
  const size_t count = size_t{rows} * cols;
  float* values = dequantized_.emplace_back(std::make_unique_for_overwrite<float[]>(count)).get();
  DequantizeFp8({codes, count}, rows, cols, *scales, *layout, values);
  ++num_dequantized_;
  return HostMatrix{values, DType::kF32, rows, cols};
}

Result<Checkpoint::Location> Checkpoint::Find(const std::string& name,
                                              const std::vector<uint64_t>& shape) {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) {
    return Error(Code::kDataError,
                 fmt::format("{}: tensor '{}' is missing", model_dir_.string(), name));
  }
  const auto& [file, tensor] = found->second;
  if (tensor->shape != shape) {
    return Error(
        Code::kDataError,
        fmt::format("{}: tensor '{}' has shape [{}]; config.json asks for [{}]", file->path(), name,
                    fmt::join(tensor->shape, ", "), fmt::join(shape, ", ")));
  }
  used_.insert(name);
  handed_out_.push_back(found->second);
  return found->second;
}

Result<HostMatrix> Checkpoint::Read(const std::string& name, const std::vector<uint64_t>& shape) {
  const auto location = Find(name, shape);
  if (!location) return tl::unexpected(location.error());
  const auto& [file, tensor] = *location;
  if (!tensor->dtype) {
    return Error(Code::kDataError,
                 fmt::format("{}: tensor '{}' is stored as {}; BF16, F16 and F32 are supported",
                             file->path(), name, tensor->dtype_name));
  }
  const std::byte* data = file->Data(*tensor);
  if (reinterpret_cast<uintptr_t>(data) % SizeOf(*tensor->dtype) != 0) {
    aligned_copies_.emplace_back(data, data + (tensor->end - tensor->begin));
    data = aligned_copies_.back().data();
  }
  return HostMatrix{data, *tensor->dtype, 0, 0};
}

void Checkpoint::ReadAhead(std::span<const std::string> names) {
  std::vector<kvs::ReadAhead::Range> ranges;
  for (const std::string& name : names) {
    const auto found = tensors_.find(name);
    if (found == tensors_.end()) continue;
    const auto& [file, tensor] = found->second;
    const uint64_t begin = file->FileOffset(*tensor);
    ranges.push_back({file->fd(), begin, begin + (tensor->end - tensor->begin)});
  }
  read_ahead_ = std::make_unique<kvs::ReadAhead>(ranges, kvs::ReadAhead::Options{});
}

void Checkpoint::Release() {
  uint64_t bytes = 0;
  for (const Location& location : handed_out_) {
    location.file->DropPages(*location.tensor);
    bytes += location.tensor->end - location.tensor->begin;
  }
  if (read_ahead_ != nullptr) read_ahead_->Used(bytes);
  handed_out_.clear();
  aligned_copies_.clear();
  dequantized_.clear();
  row_scales_.clear();
}

Result<void> Checkpoint::Finish(bool (*may_be_unused)(std::string_view name)) {
  read_ahead_.reset();
  for (const auto& [name, file] : files_) KVS_RETURN_IF_ERROR(file.CheckUnchanged());
  for (const auto& [name, location] : tensors_) {
    if (used_.count(name) != 0 || may_be_unused(name)) continue;
    return Error(Code::kDataError, fmt::format("{}: tensor '{}' has no place in this architecture",
                                               location.file->path(), name.substr(0, 200)));
  }
  return {};
}

std::vector<std::string> Checkpoint::Names() const {
  std::vector<std::string> names;
  for (const auto& [name, location] : tensors_) names.push_back(name);
  return names;
}

Result<std::vector<float>> Checkpoint::Values(const std::string& name, size_t most) {
  const auto& [file, tensor] = tensors_.at(name);
  const auto refuse = [&, shard = file](const std::string& what) {
    return Error(Code::kDataError, fmt::format("{}: tensor '{}' {}", shard->path(), name, what));
  };
  const auto element = ElementOf(tensor->dtype_name);
  if (!element) {
    return refuse(
        fmt::format("is stored as {}; BF16, F16, F32, F64, I8, U8, I32, I64 and F8_E4M3 "
                    "are supported for scales and zero points",
                    tensor->dtype_name));
  }
  const size_t count = (tensor->end - tensor->begin) / element->bytes;
  if (count > most) return refuse(fmt::format("has {} elements; at most {}", count, most));
  used_.insert(name);
  std::vector<float> values(count);
  const std::byte* at = file->Data(*tensor);
  for (size_t i = 0; i < count; ++i) values[i] = element->load(at + i * element->bytes);
  return values;
}

Result<DType> Checkpoint::FirstDType() const {
  for (const auto& [name, location] : tensors_) {
    if (location.tensor->dtype) return *location.tensor->dtype;
  }
  return Error(Code::kDataError,
               fmt::format("{}: no tensor is stored as BF16, F16 or F32", model_dir_.string()));
}

}  // namespace kvs
