#include "model/kv_scales.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <span>

#include "kvserve/float_bits.h"

namespace kvs {
namespace {

// FNV-1a (Fowler, Noll, Vo) over whole words: a fingerprint that needs no secret.
class Fingerprint {
 public:
  void Add(uint64_t word) {
    for (int byte = 0; byte < 8; ++byte) {
      hash_ = (hash_ ^ ((word >> (8 * byte)) & 0xff)) * 0x100000001b3;
    }
  }
  uint64_t value() const { return hash_; }

 private:
  uint64_t hash_ = 0xcbf29ce484222325;
};

// "0.0123", or "0.0123 0.0456" where the heads differ.
std::string ValuesOf(std::span<const float> heads) {
  const bool same = std::all_of(heads.begin(), heads.end(), [&](float x) { return x == heads[0]; });
  std::string text;
  for (const float scale : same ? heads.first(1) : heads) {
    text += fmt::format("{}{:.6g}", text.empty() ? "" : " ", scale);
  }
  return text;
}

std::string FromOf(const KvScaleSet& set, size_t layer) {
  const KvScaleSet::Origin& origin = set.origins[layer];
  const bool was_read =
      set.source == KvScaleSource::kCheckpoint || set.source == KvScaleSource::kFile;
  if (origin.k.empty()) return "default";
  if (origin.k == origin.v && !was_read) return origin.k;
  if (origin.k == origin.v) return fmt::format("{}, duplicated for K and V", origin.k);
  return fmt::format("{}, {}", origin.k, origin.v);
}

}  // namespace

std::string_view ToString(KvScaleSource source) {
  constexpr std::array<std::string_view, 6> kNames = {
      "default_1.0",   "checkpoint", "quantization_param_path",
      "random_tokens", "requests",   "requests_awaited"};
  return kNames[static_cast<size_t>(source)];
}

KvScaleSet KvScaleSet::Default(const KvLayout& layout) {
  const size_t count = size_t{layout.num_layers} * layout.num_kv_heads;
  KvScaleSet set;
  set.scales = {std::vector<float>(count, 1.0f), std::vector<float>(count, 1.0f)};
  set.origins.resize(layout.num_layers);
  return set;
}

bool KvScaleSet::IsPerHead(uint32_t num_kv_heads) const {
  for (const std::vector<float>* values : {&scales.k, &scales.v}) {
    for (size_t i = 0; i < values->size(); ++i) {
      if ((*values)[i] != (*values)[i - i % num_kv_heads]) return true;
    }
  }
  return false;
}

bool IsPlausibleKvScale(float scale) { return scale >= kKvScaleMin && scale <= kKvScaleMax; }

uint64_t KvIdentity(const KvLayout& layout, const std::vector<KvCacheDType>& layer_dtypes,
                    const KvScales& scales) {
  Fingerprint fingerprint;
  for (const uint32_t number :
       {layout.num_layers, layout.num_kv_heads, layout.head_dim, layout.block_size}) {
    fingerprint.Add(number);
  }
  for (const KvCacheDType dtype : layer_dtypes) fingerprint.Add(static_cast<uint64_t>(dtype));
  for (const float scale : scales.k) fingerprint.Add(FloatBits(scale));
  for (const float scale : scales.v) fingerprint.Add(FloatBits(scale));
  return fingerprint.value();
}

std::vector<std::string> DescribeKvScales(const KvScaleSet& set, uint32_t num_kv_heads) {
  std::vector<std::string> lines;
  for (size_t layer = 0; layer < set.origins.size(); ++layer) {
    const size_t first = layer * num_kv_heads;
    lines.push_back(fmt::format("layer {} k_scale={} v_scale={} from {}", layer,
                                ValuesOf(std::span(set.scales.k).subspan(first, num_kv_heads)),
                                ValuesOf(std::span(set.scales.v).subspan(first, num_kv_heads)),
                                FromOf(set, layer)));
  }
  return lines;
}

}  // namespace kvs
