// ResolvedOptions::ServerInfoJson: what the process was started as. Secrets are not in it.
#include <nlohmann/json.hpp>

#include "config/config.h"

namespace kvs {

std::string ResolvedOptions::ServerInfoJson(const std::string& version, const std::string& device,
                                            bool batch_invariant, const KvLayout& cache,
                                            uint32_t cache_blocks,
                                            const std::string& kv_scale_source) const {
  const nlohmann::json info = {
      {"version", version},
      {"device", device},
      {"batch_invariant", batch_invariant},
      {"model_path", model_dir.string()},
      {"served_model_name", served_model_names.front()},
      {"dtype", ToString(dtype)},
      {"kv_cache_dtype", ToString(cache.dtype)},
      {"kv_scales", kv_scale_source},
      {"calibrate_on_requests", calibrate_on_requests},
      {"kv_cache_dtype_skip_layers", kv_bf16_layers},
      {"enable_prefix_caching", enable_prefix_caching},
      {"block_size", block_size},
      {"num_blocks", cache_blocks},
      {"kv_bytes_per_token", cache.TokenBytes()},
      {"kv_pool_bytes", cache.BlockBytes() * cache_blocks},
      {"kv_pool_tokens", uint64_t{cache_blocks} * block_size},
      {"max_model_len", max_model_len},
      {"max_num_seqs", max_num_seqs},
      {"max_num_batched_tokens", max_num_batched_tokens},
      {"max_num_queued_reqs", max_num_queued_reqs},
  };
  return info.dump(2, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace kvs
