// FitKvScales: the observers of calibration.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kvserve/check.h"
#include "kvserve/float_bits.h"
#include "model/kv_calibration.h"

namespace kvs {
namespace {

// kMse looks at scales from the one that clips nothing down to 2^-kMseOctaves of it.
constexpr int kMseOctaves = 6;
constexpr int kMseStepsPerOctave = 8;

float LargestCode(KvCacheDType dtype) {
  return dtype == KvCacheDType::kF8E5M2 ? kF8E5M2Max : kF8E4M3Max;
}

float StoreAndLoad(float value, KvCacheDType dtype) {
  return dtype == KvCacheDType::kF8E5M2 ? F8E5M2ToFloat(FloatToF8E5M2(value))
                                        : F8E4M3ToFloat(FloatToF8E4M3(value));
}

// The heads that share a scale, as one.
KvHeadStatistics Merge(const KvStatistics& statistics, uint32_t layer, bool is_v) {
  KvHeadStatistics merged = statistics.At(layer, is_v, 0);
  for (uint32_t head = 1; head < statistics.num_kv_heads; ++head) {
    const KvHeadStatistics& other = statistics.At(layer, is_v, head);
    merged.Reach(other.largest);
    merged.num_saturated += other.num_saturated;
    for (size_t bin = 0; bin < merged.counts.size(); ++bin) merged.counts[bin] += other.counts[bin];
  }
  return merged;
}

// The value that `share` of all elements do not exceed, at most `largest`.
float Percentile(const KvHeadStatistics& head, double share) {
  const uint64_t total = head.num_elements();
  const auto allowed =
      static_cast<uint64_t>(std::floor((1.0 - share) * static_cast<double>(total)));
  uint64_t above = 0;
  for (uint32_t bin = kKvStatsBins; bin-- > 0;) {
    above += head.counts[bin];
    if (above <= allowed) continue;
    const float upper_edge = FloatFromBits(((bin + 1) << 16) - 1);
    return std::min(upper_edge, head.largest);
  }
  return head.largest;
}

float LeastSquaresScale(const KvHeadStatistics& head, KvCacheDType dtype) {
  const float widest = head.largest / LargestCode(dtype);
  float best = widest;
  double least = std::numeric_limits<double>::infinity();
  for (int step = 0; step <= kMseOctaves * kMseStepsPerOctave; ++step) {
    const float scale = widest * std::exp2(-static_cast<float>(step) / kMseStepsPerOctave);
    const double error = RelativeSquaredError(head, dtype, scale);
    if (error < least) {  // the first, widest, of equals
      least = error;
      best = scale;
    }
  }
  return best;
}

float ScaleOf(const KvHeadStatistics& head, const KvFitOptions& options) {
  if (head.largest == 0.0f) return 1.0f;
  if (options.fit != KvScaleFit::kMinMax) KVS_CHECK(!head.counts.empty());
  float scale = 0.0f;
  switch (options.fit) {
    case KvScaleFit::kMinMax:
      scale = head.largest / LargestCode(options.dtype);
      break;
    case KvScaleFit::kPercentile:
      scale = Percentile(head, options.percentile) / LargestCode(options.dtype);
      break;
    case KvScaleFit::kMse:
      scale = LeastSquaresScale(head, options.dtype);
      break;
  }
  return std::clamp(scale * options.headroom, kKvScaleMin, kKvScaleMax);
}

}  // namespace

double RelativeSquaredError(const KvHeadStatistics& head, KvCacheDType dtype, float scale) {
  double error = 0.0;
  double square = 0.0;
  for (uint32_t bin = 0; bin < head.counts.size(); ++bin) {
    if (head.counts[bin] == 0) continue;
    const float value = KvHeadStatistics::ValueOf(bin);
    const double off = double{StoreAndLoad(value / scale, dtype)} * scale - value;
    const auto count = static_cast<double>(head.counts[bin]);
    error += count * off * off;
    square += count * double{value} * value;
  }
  return square > 0.0 ? error / square : 0.0;
}

Result<KvScales> FitKvScales(const KvStatistics& statistics, const KvFitOptions& options) {
  KvScales scales;
  for (uint32_t layer = 0; layer < statistics.num_layers; ++layer) {
    for (const bool is_v : {false, true}) {
      std::vector<float>& out = is_v ? scales.v : scales.k;
      const KvHeadStatistics merged = Merge(statistics, layer, is_v);
      if (!std::isfinite(merged.largest)) {
        return Error(Code::kDataError,
                     fmt::format("KV scales: layer {} gives {} that are not finite", layer,
                                 is_v ? "values" : "keys"));
      }
      for (uint32_t head = 0; head < statistics.num_kv_heads; ++head) {
        const bool own = options.per_head || head == 0;
        out.push_back(
            own ? ScaleOf(options.per_head ? statistics.At(layer, is_v, head) : merged, options)
                : out.back());
      }
    }
  }
  return scales;
}

}  // namespace kvs
