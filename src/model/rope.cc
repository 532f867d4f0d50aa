#include "model/rope.h"

#include <cmath>
#include <numbers>

namespace kvs {
namespace {

// Frequencies whose wavelength exceeds what the model was first trained on are slowed by `factor`,
// fast ones are kept, and those between are blended (Hugging Face Transformers,
// modeling_rope_utils.py, _compute_llama3_parameters).
double ScaleLlama3(const RopeConfig& config, double frequency) {
  const double turns =
      config.original_max_position_embeddings * frequency / (2.0 * std::numbers::pi);
  if (turns < config.low_freq_factor) return frequency / config.factor;
  if (turns > config.high_freq_factor) return frequency;
  const double smooth =
      (turns - config.low_freq_factor) / (config.high_freq_factor - config.low_freq_factor);
  return (1.0 - smooth) * frequency / config.factor + smooth * frequency;
}

}  // namespace

std::vector<float> MakeRopeTable(const RopeConfig& config, uint32_t head_dim,
                                 uint32_t max_position) {
  const uint32_t half = head_dim / 2;
  std::vector<double> frequencies(half);
  for (uint32_t i = 0; i < half; ++i) {
    frequencies[i] = std::pow(config.theta, -2.0 * i / head_dim);
    if (config.scaling == RopeConfig::Scaling::kLlama3) {
      frequencies[i] = ScaleLlama3(config, frequencies[i]);
    }
  }
  std::vector<float> table(size_t{max_position} * head_dim);
  for (uint32_t position = 0; position < max_position; ++position) {
    float* row = table.data() + size_t{position} * head_dim;
    for (uint32_t i = 0; i < half; ++i) {
      row[i] = static_cast<float>(std::cos(position * frequencies[i]));
      row[half + i] = static_cast<float>(std::sin(position * frequencies[i]));
    }
  }
  return table;
}

}  // namespace kvs
