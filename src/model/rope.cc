#include "model/rope.h"

#include <algorithm>
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

// The dim pair (a fraction) that turns `turns` times over the original positions.
double DimOfTurns(const RopeConfig& config, uint32_t head_dim, double turns) {
  const double wavelength = config.original_max_position_embeddings / turns;
  return head_dim * std::log(wavelength / (2.0 * std::numbers::pi)) /
         (2.0 * std::log(config.theta));
}

// Dims that turn often are kept, those that hardly turn are slowed by `factor`, and those between
// are blended along a straight ramp (_compute_yarn_parameters of the same file).
void ScaleYarn(const RopeConfig& config, uint32_t head_dim, std::vector<double>& frequencies) {
  double low = DimOfTurns(config, head_dim, config.beta_fast);
  double high = DimOfTurns(config, head_dim, config.beta_slow);
  if (config.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, head_dim - 1.0);
  if (low == high) high += 0.001;  // a step instead of a ramp
  for (size_t i = 0; i < frequencies.size(); ++i) {
    const double slowed = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    frequencies[i] *= slowed / config.factor + (1.0 - slowed);
  }
}

std::vector<double> Frequencies(const RopeConfig& config, uint32_t head_dim) {
  std::vector<double> frequencies(head_dim / 2);
  for (uint32_t i = 0; i < head_dim / 2; ++i) {
    frequencies[i] = std::pow(config.theta, -2.0 * i / head_dim);
  }
  switch (config.scaling) {
    case RopeConfig::Scaling::kNone:
      break;
    case RopeConfig::Scaling::kLinear:
      for (double& frequency : frequencies) frequency /= config.factor;
      break;
    case RopeConfig::Scaling::kLlama3:
      for (double& frequency : frequencies) frequency = ScaleLlama3(config, frequency);
      break;
    case RopeConfig::Scaling::kYarn:
      ScaleYarn(config, head_dim, frequencies);
      break;
  }
  return frequencies;
}

}  // namespace

std::vector<float> MakeRopeTable(const RopeConfig& config, uint32_t head_dim,
                                 uint32_t max_position) {
  const uint32_t half = head_dim / 2;
  const std::vector<double> frequencies = Frequencies(config, head_dim);
  std::vector<float> table(size_t{max_position} * head_dim);
  for (uint32_t position = 0; position < max_position; ++position) {
    float* row = table.data() + size_t{position} * head_dim;
    for (uint32_t i = 0; i < half; ++i) {
      const double angle = position * frequencies[i];
      row[i] = static_cast<float>(std::cos(angle) * config.attention_factor);
      row[half + i] = static_cast<float>(std::sin(angle) * config.attention_factor);
    }
  }
  return table;
}

}  // namespace kvs
