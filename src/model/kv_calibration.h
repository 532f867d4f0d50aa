// Scales of an FP8 KV cache from statistics of keys and values; and the statistics of random tokens
// at start, the article's second calibration mode.
#pragma once

#include <cstdint>
#include <string_view>

#include "kvserve/options.h"
#include "model/kv_scales.h"
#include "model/kv_stats.h"
#include "model/model.h"

namespace kvs {

struct KvFitOptions {
  KvScaleFit fit = KvScaleFit::kMinMax;
  bool per_head = false;        // a scale for each KV head, else one for the heads of a layer
  double percentile = 0.99999;  // of kPercentile: the share that is not clipped
  float headroom = 1.0f;        // multiplies every scale
  KvCacheDType dtype = KvCacheDType::kF8E4M3;
};

// A head, or layer, that saw zeros alone gets 1. kDataError names the first layer whose keys or
// values are not finite. REQUIRES: counts, for a fit other than kMinMax.
Result<KvScales> FitKvScales(const KvStatistics& statistics, const KvFitOptions& options);

// Mean squared error of storing the values as `dtype` with `scale`, over their mean square; 0
// without values. From the counts.
double RelativeSquaredError(const KvHeadStatistics& head, KvCacheDType dtype, float scale);

// Computes one sequence of random tokens with a float32 cache (bfloat16 on a device that serves no
// wider one) and sets every layer's k_scale and v_scale to kHeadroom * (largest magnitude seen in
// the layer, or the head with options.kv_scales_per_head) / (largest FP8 code). REQUIRES: an FP8
// cache, Backend::Reserve was called, no request has run. kOsError when that cache cannot be had;
// kDataError when the model gives values that are not finite.
Result<void> CalculateKvScales(const ModelLoadOptions& options, Model& model, Backend& backend);

}  // namespace kvs
