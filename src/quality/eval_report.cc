#include "quality/eval_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "model/kv_calibration.h"

namespace kvs {
namespace {

double Perplexity(const TextScore& score) {
  return std::exp(score.negative_log_likelihood / static_cast<double>(score.num_tokens));
}

double PerToken(double sum, const TextScore& score) {
  return sum / static_cast<double>(score.num_tokens);
}

double Share(const PasskeyScore& score) {
  return static_cast<double>(score.num_right) / static_cast<double>(score.num_prompts);
}

uint64_t NumClipped(const Variant& variant) {
  uint64_t sum = 0;
  for (const KvHeadStatistics& head : variant.statistics.heads) sum += head.num_saturated;
  return sum;
}

std::string SummaryHead(const Variant& reference, size_t name_width) {
  std::string out = fmt::format("{:<{}} {:>11}", "cache", name_width, "bytes/token");
  if (reference.text.num_tokens > 0) {
    out += fmt::format(" {:>10} {:>8} {:>10} {:>8}", "perplexity", "change", "KL", "top-1");
  }
  for (const auto& [length, score] : reference.passkey) out += fmt::format(" {:>7}", length);
  return out + fmt::format(" {:>10}\n", "clipped");
}

std::string SummaryRow(const Variant& variant, const Variant& reference, size_t name_width) {
  std::string out =
      fmt::format("{:<{}} {:>11}", variant.name, name_width, variant.cache.layout().TokenBytes());
  if (variant.text.num_tokens > 0) {
    const double perplexity = Perplexity(variant.text);
    out +=
        fmt::format(" {:>10.4f} {:>+7.2f}% {:>10.2e} {:>7.2f}%", perplexity,
                    100 * (perplexity / Perplexity(reference.text) - 1),
                    PerToken(variant.text.kl_divergence, variant.text),
                    100 * PerToken(static_cast<double>(variant.text.num_agreeing), variant.text));
  }
  for (const auto& [length, score] : variant.passkey) {
    out += fmt::format(" {:>6.1f}%", 100 * Share(score));
  }
  return out + fmt::format(" {:>10}\n", NumClipped(variant));
}

std::string LayerTable(const Variant& variant) {
  std::string out = fmt::format(
      "\n{}: error of storing, share of values clipped\n{:>5} {:>9} {:>9} "
      "{:>9} {:>9}\n",
      variant.name, "layer", "K error", "K clipped", "V error", "V clipped");
  for (uint32_t layer = 0; layer < variant.statistics.num_layers; ++layer) {
    const LayerError k = LayerErrorOf(variant, layer, false);
    const LayerError v = LayerErrorOf(variant, layer, true);
    const bool kept = !IsFp8(variant.cache.layer_dtypes()[layer]);
    out += fmt::format("{:>5} {:>8.2f}% {:>8.3f}% {:>8.2f}% {:>8.3f}%{}\n", layer, 100 * k.relative,
                       100 * k.clipped_share, 100 * v.relative, 100 * v.clipped_share,
                       kept ? "  (stored as bfloat16)" : "");
  }
  return out;
}

nlohmann::ordered_json LayerJson(const LayerError& error) {
  return {{"relative_error", error.relative},
          {"num_clipped", error.num_clipped},
          {"clipped_share", error.clipped_share}};
}

nlohmann::ordered_json VariantJson(const Variant& variant) {
  nlohmann::ordered_json json = {{"name", variant.name},
                                 {"kv_cache_dtype", ToString(variant.cache.layout().dtype)},
                                 {"scales", variant.scales},
                                 {"bytes_per_token", variant.cache.layout().TokenBytes()},
                                 {"num_clipped", NumClipped(variant)}};
  if (variant.text.num_tokens > 0) {
    json["text"] = {
        {"num_tokens", variant.text.num_tokens},
        {"perplexity", Perplexity(variant.text)},
        {"kl_divergence", PerToken(variant.text.kl_divergence, variant.text)},
        {"top1_agreement", PerToken(static_cast<double>(variant.text.num_agreeing), variant.text)}};
  }
  for (const auto& [length, score] : variant.passkey) {
    json["passkey"][std::to_string(length)] = {{"num_prompts", score.num_prompts},
                                               {"accuracy", Share(score)}};
  }
  json["layers"] = nlohmann::ordered_json::array();
  for (uint32_t layer = 0; layer < variant.statistics.num_layers; ++layer) {
    json["layers"].push_back({{"layer", layer},
                              {"dtype", ToString(variant.cache.layer_dtypes()[layer])},
                              {"k", LayerJson(LayerErrorOf(variant, layer, false))},
                              {"v", LayerJson(LayerErrorOf(variant, layer, true))}});
  }
  return json;
}

}  // namespace

LayerError LayerErrorOf(const Variant& variant, uint32_t layer, bool is_v) {
  LayerError error;
  const KvStatistics& statistics = variant.statistics;
  const KvScales& scales = variant.cache.scales().scales;
  const KvCacheDType dtype = variant.cache.layer_dtypes()[layer];
  uint64_t num_elements = 0;
  double squares = 0.0;
  for (uint32_t head = 0; head < statistics.num_kv_heads; ++head) {
    const KvHeadStatistics& of_head = statistics.At(layer, is_v, head);
    const size_t at = size_t{layer} * statistics.num_kv_heads + head;
    error.num_clipped += of_head.num_saturated;
    num_elements += of_head.num_elements();
    if (!IsFp8(dtype)) continue;  // the counts know nothing finer than bfloat16
    squares += RelativeSquaredError(of_head, dtype, is_v ? scales.v[at] : scales.k[at]);
  }
  error.relative = std::sqrt(squares / statistics.num_kv_heads);
  if (num_elements > 0) {
    error.clipped_share =
        static_cast<double>(error.num_clipped) / static_cast<double>(num_elements);
  }
  return error;
}

std::string EvalReportText(const std::vector<Variant>& variants) {
  const Variant& reference = variants.front();
  size_t name_width = 20;
  for (const Variant& variant : variants) name_width = std::max(name_width, variant.name.size());
  std::string out = SummaryHead(reference, name_width);
  for (const Variant& variant : variants) out += SummaryRow(variant, reference, name_width);
  for (const Variant& variant : variants) {
    if (IsFp8(variant.cache.layout().dtype)) out += LayerTable(variant);
  }
  return out;
}

std::string EvalReportJson(const std::vector<Variant>& variants) {
  nlohmann::ordered_json json;
  json["reference"] = variants.front().name;
  json["variants"] = nlohmann::ordered_json::array();
  for (const Variant& variant : variants) json["variants"].push_back(VariantJson(variant));
  return json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

}  // namespace kvs
