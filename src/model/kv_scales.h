// The scales of an FP8 KV cache, where they came from, and what stands for them where cached keys
// and values of different scales must not be mixed up.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kvserve/kv_layout.h"
#include "kvserve/status.h"

namespace kvs {

// Per layer and KV head, [num_layers][num_kv_heads]; real = stored * scale. All 1 where none are
// known.
struct KvScales {
  std::vector<float> k;
  std::vector<float> v;
};

enum class KvScaleSource : uint8_t {
  kDefault,       // nobody gave any: 1.0
  kCheckpoint,    // tensors of the model directory
  kFile,          // --quantization-param-path
  kRandomTokens,  // --calculate-kv-scales
  kRequests,      // --calibrate-on-requests
  kAwaited,       // --calibrate-on-requests, before enough requests were seen: a BF16 cache
};

// "default_1.0", "checkpoint", ...: in logs, /server_info and metrics.
std::string_view ToString(KvScaleSource source);

struct KvScaleSet {
  // What a layer's scales were read from; empty: 1.0 by default.
  struct Origin {
    std::string k;
    std::string v;
  };

  KvScaleSource source = KvScaleSource::kDefault;
  KvScales scales;
  std::vector<Origin> origins;  // [num_layers]

  static KvScaleSet Default(const KvLayout& layout);
  // Whether the heads of some layer have scales of their own.
  bool IsPerHead(uint32_t num_kv_heads) const;
};

// A scale that no calibration gives: not a number, not positive, or so far from 1 that the cache
// would hold zeros or nothing but its largest code.
bool IsPlausibleKvScale(float scale);
inline constexpr float kKvScaleMin = 1e-9f;
inline constexpr float kKvScaleMax = 1e4f;
// Factor on a scale made for the FNUZ variant of E4M3, whose largest value is 240, so that the same
// largest value of a key becomes the largest code here.
inline constexpr float kFnuzToOcpScale = 240.0f / 448.0f;

// Differs where the same tokens give different bytes in the cache: layout, dtypes of the layers,
// every scale. The same in every process.
uint64_t KvIdentity(const KvLayout& layout, const std::vector<KvCacheDType>& layer_dtypes,
                    const KvScales& scales);

// One line per layer: values, and the names they were read from.
std::vector<std::string> DescribeKvScales(const KvScaleSet& set, uint32_t num_kv_heads);

}  // namespace kvs
