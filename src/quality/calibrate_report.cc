#include "quality/calibrate_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <vector>

#include "kvserve/float_bits.h"
#include "model/kv_calibration.h"

namespace kvs {
namespace {

// K or V of one layer.
struct Half {
  float largest = 0.0f;
  std::vector<float> scales;  // one, or one per head
  double error = 0.0;         // root of the relative squared error, the mean of the heads
};

Half HalfOf(const CalibrateCommand& command, const CalibrationState& state,
            const CalibrateReport& report, uint32_t layer, bool is_v) {
  const uint32_t heads = state.statistics.num_kv_heads;
  const auto& scales = is_v ? report.scales.v : report.scales.k;
  Half half;
  for (uint32_t head = 0; head < heads; ++head) {
    const KvHeadStatistics& statistics = state.statistics.At(layer, is_v, head);
    const float scale = scales[size_t{layer} * heads + head];
    half.largest = std::max(half.largest, statistics.largest);
    if (head == 0 || command.per_head) half.scales.push_back(scale);
    half.error += RelativeSquaredError(statistics, KvCacheDType::kF8E4M3, scale) / heads;
  }
  half.error = std::sqrt(half.error);
  return half;
}

std::string ScalesText(const std::vector<float>& scales) {
  const auto [low, high] = std::minmax_element(scales.begin(), scales.end());
  return *low == *high ? fmt::format("{:.6g}", *low) : fmt::format("{:.4g}..{:.4g}", *low, *high);
}

nlohmann::ordered_json HalfJson(const Half& half) {
  return {{"largest", half.largest}, {"scales", half.scales}, {"relative_error", half.error}};
}

double TokensPerSecond(const CalibrateReport& report, double seconds) {
  return seconds > 0 ? static_cast<double>(report.num_tokens_computed) / seconds : 0;
}

double PrefillShare(const CalibrateReport& report) {
  return report.seconds > 0 ? report.prefill_seconds / report.seconds : 0;
}

}  // namespace

std::string ObserverName(KvScaleFit observer) {
  switch (observer) {
    case KvScaleFit::kMinMax:
      return "minmax";
    case KvScaleFit::kPercentile:
      return "percentile";
    case KvScaleFit::kMse:
      return "mse";
  }
  return "minmax";
}

std::string CalibrateReportText(const CalibrateCommand& command, const CalibrationState& state,
                                const CalibrateReport& report) {
  std::string out = fmt::format("{:>5} {:>10} {:>16} {:>7} {:>10} {:>16} {:>7}\n", "layer",
                                "max |K|", "k_scale", "error", "max |V|", "v_scale", "error");
  for (uint32_t layer = 0; layer < state.statistics.num_layers; ++layer) {
    const Half k = HalfOf(command, state, report, layer, false);
    const Half v = HalfOf(command, state, report, layer, true);
    out += fmt::format("{:>5} {:>10.4g} {:>16} {:>6.2f}% {:>10.4g} {:>16} {:>6.2f}%\n", layer,
                       k.largest, ScalesText(k.scales), 100 * k.error, v.largest,
                       ScalesText(v.scales), 100 * v.error);
  }
  out += fmt::format("{} samples, {} tokens; {:.0f} tokens/s; observer {}, strategy {}\n",
                     state.num_samples_done, state.num_tokens_done,
                     TokensPerSecond(report, report.seconds), ObserverName(command.observer),
                     command.per_head ? "attn_head" : "tensor");
  if (report.prefill_seconds > 0) {
    out += fmt::format("without statistics {:.0f} tokens/s: calibration has {:.2f} of that speed\n",
                       TokensPerSecond(report, report.prefill_seconds), PrefillShare(report));
  }
  out += fmt::format("written: {}\nserve it: kvserve {} --kv-cache-dtype fp8\n", command.output_dir,
                     command.output_dir);
  return out;
}

std::string CalibrateReportJson(const CalibrateCommand& command, const CalibrationState& state,
                                const CalibrateReport& report) {
  nlohmann::ordered_json layers = nlohmann::ordered_json::array();
  for (uint32_t layer = 0; layer < state.statistics.num_layers; ++layer) {
    layers.push_back({{"layer", layer},
                      {"k", HalfJson(HalfOf(command, state, report, layer, false))},
                      {"v", HalfJson(HalfOf(command, state, report, layer, true))}});
  }
  nlohmann::ordered_json json = {{"output_dir", command.output_dir},
                                 {"num_samples", state.num_samples_done},
                                 {"num_tokens", state.num_tokens_done},
                                 {"tokens_per_second", TokensPerSecond(report, report.seconds)},
                                 {"observer", ObserverName(command.observer)},
                                 {"strategy", command.per_head ? "attn_head" : "tensor"},
                                 {"layers", layers}};
  if (report.prefill_seconds > 0) {
    json["prefill_tokens_per_second"] = TokensPerSecond(report, report.prefill_seconds);
    json["share_of_prefill_speed"] = PrefillShare(report);
  }
  return json.dump(2) + "\n";
}

}  // namespace kvs
