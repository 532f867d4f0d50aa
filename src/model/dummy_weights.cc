#include "model/dummy_weights.h"

#include <cmath>
#include <cstring>

#include "kvserve/float_bits.h"

namespace kvs {
namespace {

// The output function of SplitMix64 (Steele, Lea, Flood 2014): a bijection that turns a counter
// into independent-looking bits.
uint64_t Mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

uint64_t SeedOf(uint64_t seed, const std::string& name) {
  uint64_t state = Mix(seed + 0x9e3779b97f4a7c15u);
  for (const unsigned char c : name) state = Mix(state ^ c) + 0x9e3779b97f4a7c15u;
  return state;
}

template <class Stored, class Encode>
void Fill(uint64_t seed, size_t count, Stored* out, Encode encode) {
  const float step = 0.02f * std::sqrt(3.0f) / 32768.0f;  // std of U(-a, a) is a / sqrt(3)
  for (size_t i = 0; i < count; i += 4) {
    const uint64_t bits = Mix(seed + i);
    const size_t n = count - i < 4 ? count - i : 4;
    for (size_t j = 0; j < n; ++j) {
      out[i + j] = encode(static_cast<float>(static_cast<int16_t>(bits >> (16 * j))) * step);
    }
  }
}

}  // namespace

Result<HostMatrix> DummyWeights::Matrix(const std::string& name, uint32_t rows, uint32_t cols) {
  const size_t count = size_t{rows} * cols;
  auto& buffer = handed_out_.emplace_back((count * SizeOf(dtype_) + 3) / 4);
  const uint64_t seed = SeedOf(seed_, name);
  switch (dtype_) {
    case DType::kBf16:
      Fill(seed, count, reinterpret_cast<uint16_t*>(buffer.data()),
           [](float value) { return FloatToBf16(value); });
      break;
    case DType::kF16:
      Fill(seed, count, reinterpret_cast<uint16_t*>(buffer.data()),
           [](float value) { return FloatToF16(value); });
      break;
    case DType::kF32:
      Fill(seed, count, reinterpret_cast<float*>(buffer.data()), [](float value) { return value; });
      break;
  }
  return HostMatrix{buffer.data(), dtype_, rows, cols};
}

Result<HostMatrix> DummyWeights::Vector(const std::string& name, uint32_t size) {
  const float value = name.ends_with(".bias") ? 0.0f : 1.0f;
  auto& buffer = handed_out_.emplace_back(size, FloatBits(value));
  return HostMatrix{buffer.data(), DType::kF32, 1, size};
}

}  // namespace kvs
