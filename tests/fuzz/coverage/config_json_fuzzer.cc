// Reads the input as a model's config.json. What is accepted must be safe to compute with.
#include "kvserve/check.h"
#include "model/model.h"
#include "scratch_dir.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const kvs::ScratchDir scratch;
  scratch.Write("config.json", data, size);
  const auto config = kvs::ReadModelConfig(scratch.path());
  if (!config) {
    KVS_CHECK(!config.error().message().empty());
    return 0;
  }
  KVS_CHECK_OP(config->vocab_size, >, 0u);
  KVS_CHECK_OP(config->num_layers, >, 0u);
  KVS_CHECK_OP(config->head_dim, >, 0u);
  KVS_CHECK_OP(config->num_kv_heads, >, 0u);
  KVS_CHECK_OP(config->num_heads % config->num_kv_heads, ==, 0u);
  return 0;
}
