// RunPlan: KV cache arithmetic for every dtype, as text or JSON.
#include <fmt/format.h>

#include <array>
#include <nlohmann/json.hpp>
#include <vector>

#include "config/config.h"
#include "config/kv_pool.h"

namespace kvs {
namespace {

struct PlanRow {
  KvCacheDType dtype;
  uint64_t bytes_per_token;
  uint64_t num_blocks;
  uint64_t num_tokens;
  uint64_t num_sequences;       // of `context` tokens at once
  uint64_t bytes_per_sequence;  // of `context` tokens, in whole blocks
};

struct Plan {
  const ModelConfig& config;
  uint64_t memory_bytes;
  uint32_t context;
  uint32_t block_size;
  std::vector<PlanRow> rows;
};

PlanRow MakeRow(const Plan& plan, KvCacheDType dtype) {
  const KvLayout layout = LayoutOf(plan.config, plan.block_size, dtype);
  const uint64_t blocks_per_sequence =
      (uint64_t{plan.context} + plan.block_size - 1) / plan.block_size;
  PlanRow row{};
  row.dtype = dtype;
  row.bytes_per_token = layout.TokenBytes();
  row.num_blocks = BlocksInBytes(layout, plan.memory_bytes);
  row.num_tokens = row.num_blocks * plan.block_size;
  row.num_sequences = row.num_blocks / blocks_per_sequence;
  row.bytes_per_sequence = blocks_per_sequence * layout.BlockBytes();
  return row;
}

// "16.0 GiB"; bytes below a KiB as they are.
std::string HumanBytes(uint64_t bytes) {
  constexpr std::array<const char*, 5> kUnits = {"B", "KiB", "MiB", "GiB", "TiB"};
  auto value = static_cast<double>(bytes);
  size_t unit = 0;
  while (value >= 1024.0 && unit + 1 < kUnits.size()) {
    value /= 1024.0;
    ++unit;
  }
  return unit == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.1f} {}", value, kUnits[unit]);
}

std::string FormatText(const Plan& plan) {
  std::string out = fmt::format(
      "model: {} layers, {} KV heads, head dimension {}, {} positions\n"
      "pool: {} bytes ({}), blocks of {} tokens\n"
      "context: {} tokens a sequence\n\n"
      "{:<14} {:>11} {:>10} {:>12} {:>10} {:>15}\n",
      plan.config.num_layers, plan.config.num_kv_heads, plan.config.head_dim,
      plan.config.max_position_embeddings, plan.memory_bytes, HumanBytes(plan.memory_bytes),
      plan.block_size, plan.context, "kv_cache_dtype", "bytes/token", "blocks", "tokens",
      "sequences", "bytes/sequence");
  for (const PlanRow& row : plan.rows) {
    out += fmt::format("{:<14} {:>11} {:>10} {:>12} {:>10} {:>15}\n", ToString(row.dtype),
                       row.bytes_per_token, row.num_blocks, row.num_tokens, row.num_sequences,
                       HumanBytes(row.bytes_per_sequence));
  }
  return out;
}

std::string FormatJson(const Plan& plan) {
  nlohmann::ordered_json dtypes;
  for (const PlanRow& row : plan.rows) {
    dtypes[std::string(ToString(row.dtype))] = {{"bytes_per_token", row.bytes_per_token},
                                                {"num_blocks", row.num_blocks},
                                                {"num_tokens", row.num_tokens},
                                                {"num_sequences", row.num_sequences},
                                                {"bytes_per_sequence", row.bytes_per_sequence}};
  }
  const nlohmann::ordered_json json = {{"num_layers", plan.config.num_layers},
                                       {"num_kv_heads", plan.config.num_kv_heads},
                                       {"head_dim", plan.config.head_dim},
                                       {"model_max_len", plan.config.max_position_embeddings},
                                       {"kv_cache_memory_bytes", plan.memory_bytes},
                                       {"block_size", plan.block_size},
                                       {"context", plan.context},
                                       {"kv_cache_dtypes", dtypes}};
  return json.dump(2) + "\n";
}

}  // namespace

Result<std::string> RunPlan(const PlanCommand& command, const ModelConfig& config) {
  Plan plan{config, command.memory_bytes, command.context, command.block_size, {}};
  if (plan.memory_bytes == 0) plan.memory_bytes = kCpuKvCacheBytesDefault;
  if (plan.context == 0) plan.context = config.max_position_embeddings;
  if (plan.context > config.max_position_embeddings) {
    return Error(Code::kInvalidArgument,
                 fmt::format("--context: got {}, but the model has {} positions", plan.context,
                             config.max_position_embeddings),
                 "--context");
  }
  for (const KvCacheDType dtype : {KvCacheDType::kF32, KvCacheDType::kBf16, KvCacheDType::kF16,
                                   KvCacheDType::kF8E4M3, KvCacheDType::kF8E5M2}) {
    plan.rows.push_back(MakeRow(plan, dtype));
  }
  return command.json ? FormatJson(plan) : FormatText(plan);
}

}  // namespace kvs
