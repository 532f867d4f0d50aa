#include "model/weight_loader.h"

#include <cstring>
#include <utility>
#include <vector>

#include "kvserve/float_bits.h"

namespace kvs {
namespace {

std::vector<float> ToFloats(const HostMatrix& vector) {
  std::vector<float> out(vector.cols);
  if (vector.dtype == DType::kF32) {
    std::memcpy(out.data(), vector.data, out.size() * sizeof(float));
    return out;
  }
  const auto* stored = static_cast<const uint16_t*>(vector.data);
  for (size_t i = 0; i < out.size(); ++i) {
    out[i] = vector.dtype == DType::kBf16 ? Bf16ToFloat(stored[i]) : F16ToFloat(stored[i]);
  }
  return out;
}

}  // namespace

Result<std::unique_ptr<LinearWeight>> WeightLoader::Linear(std::initializer_list<Part> parts,
                                                           uint32_t cols) {
  std::vector<HostMatrix> matrices;
  uint64_t elements = 0;
  for (const Part& part : parts) {
    auto matrix = source_.Matrix(part.name, part.rows, cols);
    if (!matrix) return tl::unexpected(matrix.error());
    matrices.push_back(*matrix);
    elements += uint64_t{part.rows} * cols;
  }
  auto packed = backend_.PackLinear(matrices, dtype_);
  if (!packed) return tl::unexpected(packed.error().WithContext(parts.begin()->name));
  source_.Release();
  Advance(elements * SizeOf(dtype_));
  return packed;
}

Result<DeviceBuffer> WeightLoader::Norm(const std::string& name, uint32_t size) {
  auto vector = source_.Vector(name, size);
  if (!vector) return tl::unexpected(vector.error());
  const std::vector<float> floats = ToFloats(*vector);
  source_.Release();
  auto buffer = backend_.Allocate(floats.size() * sizeof(float), name.c_str());
  if (!buffer) return buffer;
  backend_.CopyToDevice(buffer->data(), floats.data(), floats.size() * sizeof(float));
  Advance(floats.size() * sizeof(float));
  return buffer;
}

void WeightLoader::Advance(uint64_t bytes) {
  bytes_done_ += bytes;
  if (progress_) progress_(bytes_done_, bytes_total_);
}

}  // namespace kvs
