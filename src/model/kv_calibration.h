// Scales of an FP8 KV cache from random tokens, at start: the article's second calibration mode.
#pragma once

#include <cstdint>

#include "model/model.h"

namespace kvs {

// Computes one sequence of random tokens with a float32 cache and sets every layer's k_scale and
// v_scale to kHeadroom * (largest magnitude seen in the layer) / (largest FP8 code), the same for
// all heads of a layer. REQUIRES: an FP8 cache, Backend::Reserve was called, no request has run.
// kOsError when the float32 cache cannot be had; kDataError when the model gives values that are
// not finite.
Result<void> CalculateKvScales(const ModelLoadOptions& options, Model& model, Backend& backend);

}  // namespace kvs
