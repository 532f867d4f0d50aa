#include "model/dummy_weights.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "kvserve/float_bits.h"
#include "model/fp8_weights.h"
#include "model/split_work.h"

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

constexpr float kLargest = 0.02f * 1.7320508f;  // std of U(-a, a) is a / sqrt(3)

constexpr size_t kAlignment = 64;  // bytes, of a tensor in its block

// A matrix is made in pieces of this many elements; each depends on where it begins alone.
constexpr size_t kGrain = 1024;

// One piece: `count` elements from `first` on, of a tensor with this seed.
template <class Stored, class Encode>
void FillPiece(uint64_t seed, size_t first, size_t count, Stored* out, Encode encode) {
  constexpr float kStep = kLargest / 32768.0f;
  std::array<uint64_t, kGrain / 4> bits;
  for (size_t i = 0; i < bits.size(); ++i) bits[i] = Mix(seed + first + 4 * i);
  std::array<int16_t, kGrain> draws;
  std::memcpy(draws.data(), bits.data(), sizeof(draws));
  for (size_t i = 0; i < count; ++i) out[i] = encode(static_cast<float>(draws[i]) * kStep);
}

template <class Stored, class Encode>
void Fill(uint64_t seed, size_t count, void* to, Encode encode) {
  auto* out = static_cast<Stored*>(to);
  SplitWork(count, kGrain, [&](size_t begin, size_t end) {
    for (size_t at = begin; at < end; at += kGrain) {
      FillPiece(seed, at, std::min(kGrain, end - at), out + at, encode);
    }
  });
}

}  // namespace

Result<HostMatrix> DummyWeights::Matrix(const std::string& name, uint32_t rows, uint32_t cols) {
  const size_t count = size_t{rows} * cols;
  if (WhyNotFp8(name, rows, cols).empty()) {
    const HostMatrix stored = *Fp8Matrix(name, rows, cols);
    auto* values = static_cast<float*>(Take(count * sizeof(float)));
    DequantizeFp8({static_cast<const uint8_t*>(stored.data), count}, rows, cols,
                  {stored.row_scales, rows}, {1, cols}, values);
    ++num_dequantized_;
    return HostMatrix{values, DType::kF32, rows, cols};
  }
  void* data = Take(count * SizeOf(dtype_));
  const uint64_t seed = SeedOf(seed_, name);
  switch (dtype_) {
    case DType::kBf16:
      Fill<uint16_t>(seed, count, data, [](float value) { return FloatToBf16(value); });
      break;
    case DType::kF16:
      Fill<uint16_t>(seed, count, data, [](float value) { return FloatToF16(value); });
      break;
    case DType::kF32:
      Fill<float>(seed, count, data, [](float value) { return value; });
      break;
    case DType::kF8E4M3:
      break;  // never what a network is loaded as
  }
  return HostMatrix{data, dtype_, rows, cols};
}

std::string DummyWeights::WhyNotFp8(const std::string& name, uint32_t rows, uint32_t cols) const {
  if (fp8_layers_ && name.starts_with("model.layers.")) return "";
  return WeightSource::WhyNotFp8(name, rows, cols);
}

Result<HostMatrix> DummyWeights::Fp8Matrix(const std::string& name, uint32_t rows, uint32_t cols) {
  constexpr float kScale = kLargest / kF8E4M3Max;
  const size_t count = size_t{rows} * cols;
  HostMatrix matrix{Take(count), DType::kF8E4M3, rows, cols};
  auto* scales = static_cast<float*>(Take(rows * sizeof(float)));
  std::fill_n(scales, rows, kScale);
  matrix.row_scales = scales;
  Fill<uint8_t>(SeedOf(seed_, name), count, const_cast<void*>(matrix.data),
                [](float value) { return FloatToF8E4M3(value / kScale); });
  return matrix;
}

Result<HostMatrix> DummyWeights::Vector(const std::string& name, uint32_t size) {
  const float value = name.ends_with(".bias") ? 0.0f : 1.0f;
  auto* data = static_cast<float*>(Take(size * sizeof(float)));
  std::fill_n(data, size, value);
  return HostMatrix{data, DType::kF32, 1, size};
}

void* DummyWeights::Take(size_t bytes) {
  const size_t words = (bytes + kAlignment - 1) / kAlignment * (kAlignment / sizeof(uint32_t));
  if (blocks_.empty() || blocks_.back().words - blocks_.back().used < words) {
    blocks_.push_back({std::make_unique_for_overwrite<uint32_t[]>(words), words, 0});
  }
  Block& block = blocks_.back();
  void* taken = block.memory.get() + block.used;
  block.used += words;
  return taken;
}

// The largest block is kept: new memory is dearer than the numbers in it.
void DummyWeights::Release() {
  const auto smaller = [](const Block& a, const Block& b) { return a.words < b.words; };
  const auto largest = std::max_element(blocks_.begin(), blocks_.end(), smaller);
  if (largest == blocks_.end()) return;
  Block kept{std::move(largest->memory), largest->words, 0};
  blocks_.clear();
  blocks_.push_back(std::move(kept));
}

}  // namespace kvs
