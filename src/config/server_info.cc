// ResolvedOptions::ServerInfoJson: what the process was started as. Secrets are not in it.
#include <nlohmann/json.hpp>

#include "config/config.h"

namespace kvs {

std::string ResolvedOptions::ServerInfoJson(const std::string& version, const std::string& device,
                                            const std::string& kv_scale_source) const {
  const nlohmann::json info = {
      {"version", version},
      {"device", device},
      {"model_path", model_dir.string()},
      {"served_model_name", served_model_names.front()},
      {"dtype", ToString(dtype)},
      {"kv_cache_dtype", ToString(kv_dtype)},
      {"kv_scales", kv_scale_source},
      {"kv_cache_dtype_skip_layers", kv_bf16_layers},
      {"enable_prefix_caching", enable_prefix_caching},
      {"block_size", block_size},
      {"num_blocks", num_blocks},
      {"kv_bytes_per_token", kv_bytes_per_token},
      {"kv_pool_bytes", kv_pool_bytes},
      {"kv_pool_tokens", kv_pool_tokens},
      {"max_model_len", max_model_len},
      {"max_num_seqs", max_num_seqs},
      {"max_num_batched_tokens", max_num_batched_tokens},
      {"max_num_queued_reqs", max_num_queued_reqs},
  };
  return info.dump(2, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace kvs
