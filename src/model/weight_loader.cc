#include "model/weight_loader.h"

#include <fmt/format.h>

#include <cstring>
#include <span>

#include "base/log.h"
#include "kvserve/float_bits.h"

namespace kvs {
namespace {

void AppendFloats(const HostMatrix& vector, std::vector<float>& out) {
  const size_t first = out.size();
  out.resize(first + vector.cols);
  if (vector.dtype == DType::kF32) {
    std::memcpy(out.data() + first, vector.data, vector.cols * sizeof(float));
    return;
  }
  const auto* stored = static_cast<const uint16_t*>(vector.data);
  for (size_t i = 0; i < vector.cols; ++i) {
    out[first + i] = vector.dtype == DType::kBf16 ? Bf16ToFloat(stored[i]) : F16ToFloat(stored[i]);
  }
}

}  // namespace

void WeightLoader::Add(Item item, size_t element_bytes) {
  for (const Part& part : item.parts) item.bytes += uint64_t{part.rows} * item.cols;
  item.bytes *= element_bytes;
  total_bytes_ += item.bytes;
  items_.push_back(std::move(item));
}

void WeightLoader::AddLinear(std::unique_ptr<LinearWeight>& to, std::vector<Part> parts,
                             uint32_t cols, std::string why_not_fp8) {
  Add({&to, nullptr, std::move(parts), cols, std::move(why_not_fp8), 0}, SizeOf(dtype_));
}

void WeightLoader::AddVector(DeviceBuffer& to, std::vector<Part> parts) {
  Add({nullptr, &to, std::move(parts), 1, {}, 0}, sizeof(float));
}

Result<void> WeightLoader::Load(WeightSource& source, Backend& backend) {
  std::vector<std::string> names;
  for (const Item& item : items_) {
    for (const Part& part : item.parts) names.push_back(part.name);
  }
  source.ReadAhead(names);
  const uint64_t bytes_total = total_bytes_;
  uint64_t bytes_done = 0;
  for (const Item& item : items_) {
    KVS_RETURN_IF_ERROR(item.linear != nullptr ? LoadLinear(item, source, backend)
                                               : LoadVector(item, source, backend));
    source.Release();
    bytes_done += item.bytes;
    if (progress_) progress_(bytes_done, bytes_total);
  }
  LogFp8();
  return {};
}

void WeightLoader::LogFp8() const {
  if (num_fp8_ > 0) {
    LOG_INFO("weights: {} matrices are held as FP8; what they multiply is quantized to FP8 too",
             num_fp8_);
  }
  for (const auto& [why, count] : dequantized_) {
    LOG_INFO("weights: {} matrices are stored as FP8 and were dequantized: {}", count, why);
  }
}

std::string WeightLoader::WhyNoFp8(const Item& item, const WeightSource& source,
                                   const Backend& backend) {
  if (!item.why_not_fp8.empty()) return item.why_not_fp8;
  uint32_t rows = 0;
  for (const Part& part : item.parts) {
    rows += part.rows;
    const std::string why = source.WhyNotFp8(part.name, part.rows, item.cols);
    if (!why.empty()) return why;
  }
  return backend.WhyNoFp8(rows, item.cols);
}

Result<void> WeightLoader::LoadLinear(const Item& item, WeightSource& source, Backend& backend) {
  const std::string why_no_fp8 = WhyNoFp8(item, source, backend);
  const uint32_t dequantized_before = source.num_dequantized();
  std::vector<HostMatrix> matrices;
  for (const Part& part : item.parts) {
    auto matrix = why_no_fp8.empty() ? source.Fp8Matrix(part.name, part.rows, item.cols)
                                     : source.Matrix(part.name, part.rows, item.cols);
    if (!matrix) return tl::unexpected(matrix.error());
    matrices.push_back(*matrix);
  }
  const uint32_t dequantized = source.num_dequantized() - dequantized_before;
  if (dequantized > 0) dequantized_[why_no_fp8] += dequantized;
  if (why_no_fp8.empty()) {
    num_fp8_ += static_cast<uint32_t>(matrices.size());
    total_bytes_ -= item.bytes - item.bytes / SizeOf(dtype_);
  }
  auto packed = backend.PackLinear(matrices, why_no_fp8.empty() ? DType::kF8E4M3 : dtype_);
  if (!packed) return tl::unexpected(packed.error().WithContext(item.parts.front().name));
  *item.linear = std::move(*packed);
  return {};
}

Result<void> WeightLoader::LoadVector(const Item& item, WeightSource& source,
                                      Backend& backend) const {
  std::vector<float> floats;
  for (const Part& part : item.parts) {
    auto vector = source.Vector(part.name, part.rows);
    if (!vector) return tl::unexpected(vector.error());
    AppendFloats(*vector, floats);
  }
  auto buffer = backend.Allocate(floats.size() * sizeof(float), item.parts.front().name.c_str());
  if (!buffer) return tl::unexpected(buffer.error());
  backend.CopyToDevice(buffer->data(), floats.data(), floats.size() * sizeof(float));
  *item.vector = std::move(*buffer);
  return {};
}

}  // namespace kvs
