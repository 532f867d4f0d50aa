// EvalPlot: the error of every layer as SVG, on a logarithmic scale.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "quality/eval_report.h"

namespace kvs {
namespace {

constexpr double kWidth = 760, kHeight = 380;
constexpr double kLeft = 70, kRight = 20, kTop = 40, kBottom = 50;
constexpr double kErrorMin = 0.01, kErrorMax = 1.0;  // 1 % to 100 %
constexpr std::array kColors = {"#1f6feb", "#d1242f", "#1a7f37", "#9a6700", "#8250df", "#0a7ea4"};

double YOf(double error) {
  const double clamped = std::clamp(error, kErrorMin, kErrorMax);
  const double share = std::log(clamped / kErrorMin) / std::log(kErrorMax / kErrorMin);
  return kHeight - kBottom - share * (kHeight - kTop - kBottom);
}

double XOf(uint32_t layer, uint32_t num_layers) {
  return kLeft + (layer + 0.5) / num_layers * (kWidth - kLeft - kRight);
}

std::string Escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '&') {
      out += "&amp;";
    } else if (c == '<') {
      out += "&lt;";
    } else {
      out += c;
    }
  }
  return out;
}

std::string Axes(uint32_t num_layers) {
  std::string out;
  for (const double error : {0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0}) {
    out += fmt::format(
        "<line x1='{0}' x2='{1}' y1='{2:.1f}' y2='{2:.1f}' stroke='#ddd'/>"
        "<text x='{3}' y='{4:.1f}' text-anchor='end'>{5:.0f}%</text>\n",
        kLeft, kWidth - kRight, YOf(error), kLeft - 8, YOf(error) + 4, 100 * error);
  }
  const uint32_t step = (num_layers + 31) / 32;
  for (uint32_t layer = 0; layer < num_layers; layer += step) {
    out += fmt::format("<text x='{:.1f}' y='{:.1f}' text-anchor='middle'>{}</text>\n",
                       XOf(layer, num_layers), kHeight - kBottom + 18, layer);
  }
  return out + fmt::format("<text x='{}' y='{}' text-anchor='middle'>layer</text>\n", kWidth / 2,
                           kHeight - 10);
}

std::string Line(const Variant& variant, bool is_v, const char* color) {
  const uint32_t num_layers = variant.statistics.num_layers;
  std::string points;
  for (uint32_t layer = 0; layer < num_layers; ++layer) {
    points += fmt::format("{:.1f},{:.1f} ", XOf(layer, num_layers),
                          YOf(LayerErrorOf(variant, layer, is_v).relative));
  }
  return fmt::format("<polyline points='{}' fill='none' stroke='{}' stroke-width='2'{}/>\n", points,
                     color, is_v ? " stroke-dasharray='6 4'" : "");
}

}  // namespace

std::string EvalPlot(const std::vector<Variant>& variants) {
  std::string out = fmt::format(
      "<svg xmlns='http://www.w3.org/2000/svg' width='{0}' height='{1}' viewBox='0 0 {0} {1}' "
      "font-family='sans-serif' font-size='12'>\n<rect width='100%' height='100%' fill='#fff'/>\n"
      "<text x='{2}' y='18'>Error of storing keys (solid) and values (dashed), relative</text>\n",
      kWidth, kHeight, kLeft);
  out += Axes(variants.front().statistics.num_layers);
  size_t index = 0;
  for (const Variant& variant : variants) {
    if (!IsFp8(variant.cache.layout().dtype)) continue;
    const char* color = kColors[index % kColors.size()];
    out += Line(variant, false, color) + Line(variant, true, color);
    out += fmt::format("<text x='{}' y='{}' fill='{}'>{}</text>\n", kLeft + 8,
                       kTop + 4 + 16 * static_cast<double>(index), color, Escaped(variant.name));
    ++index;
  }
  return out + "</svg>\n";
}

}  // namespace kvs
