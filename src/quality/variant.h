// One KV cache type with one set of scales, and what was measured of it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "config/config.h"
#include "kvserve/backend.h"
#include "model/kv_cache.h"
#include "model/model.h"

namespace kvs {

// Over every token of --text that has a next one.
struct TextScore {
  uint64_t num_tokens = 0;
  double negative_log_likelihood = 0.0;  // sum, in nats
  double kl_divergence = 0.0;            // sum, from the reference's distribution to this one
  uint64_t num_agreeing = 0;             // tokens whose most likely successor is the reference's
};

struct PasskeyScore {
  uint64_t num_prompts = 0;
  uint64_t num_right = 0;  // every token of the answer was the most likely one
};

struct Variant {
  std::string name;  // "fp8_e4m3 random"
  std::string scales =
      {};  // as asked for: "none", "random", a path; empty for types without scales
  KvCache cache;
  KvObserver observer;
  KvStatistics statistics;
  TextScore text = {};
  std::map<uint32_t, PasskeyScore> passkey = {};  // by length
};

// The reference, which has the model's own type, and then every type asked for with every set of
// scales. Caches hold `num_blocks` blocks. `load` is what `model` was loaded with. kDataError for
// scales that cannot be read.
Result<std::vector<Variant>> MakeVariants(const EvalCommand& command, const ModelLoadOptions& load,
                                          uint32_t num_blocks, Model& model, Backend& backend);

}  // namespace kvs
