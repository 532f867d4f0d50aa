#include "model/read_rope.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace kvs {
namespace {

constexpr double kThetaMax = 1e12;
constexpr double kFactorMax = 1e6;

uint32_t Lengthened(double positions) {
  return static_cast<uint32_t>(std::min<double>(positions, kPositionsMax));
}

void ReadLinear(JsonFields& scaling, ModelConfig& config) {
  config.rope.scaling = RopeConfig::Scaling::kLinear;
  config.rope.factor = scaling.Number("factor", 1.0, kFactorMax);
  config.max_position_embeddings = Lengthened(config.max_position_embeddings * config.rope.factor);
}

void ReadLlama3(JsonFields& scaling, ModelConfig& config) {
  RopeConfig& rope = config.rope;
  rope.scaling = RopeConfig::Scaling::kLlama3;
  rope.factor = scaling.Number("factor", 1.0, kFactorMax);
  rope.low_freq_factor = scaling.Number("low_freq_factor", 1e-6, kFactorMax);
  rope.high_freq_factor = scaling.Number("high_freq_factor", 1e-6, kFactorMax);
  rope.original_max_position_embeddings =
      scaling.Uint("original_max_position_embeddings", 1, kPositionsMax);
  if (rope.high_freq_factor <= rope.low_freq_factor) {
    scaling.Refuse("high_freq_factor", "more than low_freq_factor is supported");
  }
}

// How much longer attention's scores become, by the rule of the YaRN paper.
double YarnScale(double factor, double mscale) {
  return factor <= 1.0 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
}

void ReadYarn(JsonFields& scaling, ModelConfig& config) {
  RopeConfig& rope = config.rope;
  rope.scaling = RopeConfig::Scaling::kYarn;
  const uint32_t positions = config.max_position_embeddings;
  rope.original_max_position_embeddings =
      scaling.Uint("original_max_position_embeddings", 1, kPositionsMax, positions);
  const double original = rope.original_max_position_embeddings;
  rope.factor = scaling.Number("factor", 1.0, kFactorMax, std::max(1.0, positions / original));
  rope.beta_fast = scaling.Number("beta_fast", 1e-6, kFactorMax, 32.0);
  rope.beta_slow = scaling.Number("beta_slow", 1e-6, kFactorMax, 1.0);
  rope.truncate = scaling.Bool("truncate", true);
  const double mscale = scaling.Number("mscale", 0.0, kFactorMax, 0.0);
  const double mscale_all_dim = scaling.Number("mscale_all_dim", 0.0, kFactorMax, 0.0);
  const double of_factor =
      mscale > 0.0 && mscale_all_dim > 0.0
          ? YarnScale(rope.factor, mscale) / YarnScale(rope.factor, mscale_all_dim)
          : YarnScale(rope.factor, 1.0);
  rope.attention_factor = scaling.Number("attention_factor", 1e-6, kFactorMax, of_factor);
  config.max_position_embeddings = std::max(positions, Lengthened(original * rope.factor));
}

// Every field of the object changes the numbers: one that was not read is refused.
void RefuseUnread(JsonFields& scaling) {
  const std::vector<std::string> keys = scaling.UnaskedKeys();
  if (!keys.empty()) scaling.Refuse(keys.front().c_str(), "this field is not supported");
}

}  // namespace

void ReadRope(JsonFields& fields, const std::string& where, double default_theta,
              ModelConfig& config) {
  RopeConfig& rope = config.rope;
  rope.theta = fields.Number("rope_theta", 1.0, kThetaMax, default_theta);
  // Under its name since Transformers 5 or under the older one.
  const char* key = fields.Has("rope_parameters") ? "rope_parameters" : "rope_scaling";
  const Json* object = fields.Find(key);
  if (object == nullptr) return;
  if (!object->is_object()) return fields.Refuse(key, "an object or null is expected");

  JsonFields scaling(*object, where + ": " + key);
  rope.theta = scaling.Number("rope_theta", 1.0, kThetaMax, rope.theta);
  scaling.Number("partial_rotary_factor", 1.0, 1.0, 1.0);
  scaling.Bool("finetuned", false);  // says how the checkpoint came about
  const char* type_key = scaling.Has("rope_type") ? "rope_type" : "type";
  const std::string type = scaling.String(type_key, "default");
  scaling.Find("type");  // Transformers writes both
  if (type == "linear") {
    ReadLinear(scaling, config);
  } else if (type == "llama3") {
    ReadLlama3(scaling, config);
  } else if (type == "yarn") {
    ReadYarn(scaling, config);
  } else if (type != "default") {
    scaling.Refuse(type_key, "supported: default, linear, llama3, yarn");
  }
  RefuseUnread(scaling);
  if (scaling.error()) fields.Fail(*scaling.error());
}

}  // namespace kvs
