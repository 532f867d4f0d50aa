#include <vector>

#include "config/flags.h"

namespace kvs {
namespace {

bool IsUrl(const std::string& text) {
  for (const std::string_view scheme : {"http://", "https://"}) {
    if (text.compare(0, scheme.size(), scheme) == 0) return text.size() > scheme.size();
  }
  return false;
}

// What the two commands that talk to a server share.
template <class Command>
void AddServerFlags(std::vector<Flag<Command>>& table) {
  const FlagGroup group = FlagGroup::kHttp;
  table.push_back(
      TextFlag<Command>({"url", group, "URL", "Server to talk to, as http://HOST:PORT", kCommon},
                        At(&Command::url), IsUrl, "a URL such as http://127.0.0.1:8000"));
  table.push_back(TextFlag<Command>(
      {"api-key", group, "KEY", "Key of the server; also KVSERVE_API_KEY", kCommon},
      At(&Command::api_key), IsNotEmpty, "a key that is not empty"));
  table.push_back(TextFlag<Command>(
      {"model", group, "NAME", "Model to ask for; the server's first when none is named", kCommon},
      At(&Command::model), IsNotEmpty, "a name that is not empty"));
  table.push_back(SwitchFlag<Command>(
      {"json", FlagGroup::kGeneral, nullptr, "Print the report as JSON", kCommon},
      At(&Command::json)));
}

}  // namespace

std::vector<Flag<CheckCacheCommand>> CheckCacheFlags() {
  using C = CheckCacheCommand;
  std::vector<Flag<C>> table;
  AddServerFlags(table);
  const FlagGroup group = FlagGroup::kWorkload;
  table.push_back(WholeFlag<C>({"prompt-tokens", group, "N", "Least length of the prompt", kCommon},
                               At(&C::prompt_tokens), 32, kMaxTokens));
  table.push_back(WholeFlag<C>({"max-tokens", group, "N", "Tokens to generate", kCommon},
                               At(&C::max_tokens), 1, kMaxTokens));
  return table;
}

std::vector<Flag<BenchCommand>> BenchFlags() {
  using C = BenchCommand;
  std::vector<Flag<C>> table;
  AddServerFlags(table);
  const FlagGroup group = FlagGroup::kWorkload;
  table.push_back(WholeFlag<C>({"num-prompts", group, "N", "Requests to send", kCommon},
                               At(&C::num_prompts), 1, 1u << 24));
  table.push_back(
      WholeFlag<C>({"concurrency", group, "N", "Closed loop: requests in flight", kCommon},
                   At(&C::concurrency), 1, 4096));
  table.push_back(
      RealFlag<C>({"request-rate", group, "RATE",
                   "Open loop: requests a second, Poisson arrivals; 0: closed loop", kCommon},
                  At(&C::request_rate), 0.0, 1e6));
  table.push_back(WholeFlag<C>({"prompt-tokens", group, "N", "Length of each prompt", kCommon},
                               At(&C::prompt_tokens), 1, kMaxTokens));
  table.push_back(
      WholeFlag<C>({"output-tokens", group, "N", "Tokens to generate for each", kCommon},
                   At(&C::output_tokens), 1, kMaxTokens));
  table.push_back(WholeFlag<C>(
      {"shared-prefix-tokens", group, "N", "Leading tokens that prompts share", kCommon},
      At(&C::shared_prefix_tokens), 0, kMaxTokens));
  table.push_back(
      WholeFlag<C>({"num-prefixes", group, "N", "How many different shared prefixes", kCommon},
                   At(&C::num_prefixes), 1, 1u << 20));
  table.push_back(WholeFlag<C>({"seed", group, "N", "Seed of prompts and arrivals", kCommon},
                               At(&C::seed), 0, UINT64_MAX));
  return table;
}

std::vector<Flag<PlanCommand>> PlanFlags() {
  using C = PlanCommand;
  const FlagGroup group = FlagGroup::kKvCache;
  std::vector<Flag<C>> table;
  table.push_back(
      TextFlag<C>({"model", FlagGroup::kModel, "MODEL",
                   "Model directory, config.json, or org/name on the Hugging Face Hub; the bundled "
                   "model when none is named",
                   kCommon},
                  At(&C::model), IsNotEmpty, "a model directory or org/name"));
  table.push_back(TextFlag<C>({"revision", FlagGroup::kModel, "REVISION",
                               "Branch, tag or commit of a model on the Hub; main when none"},
                              At(&C::revision), IsRevision, kRevisionAllowed));
  table.push_back(
      BytesFlag<C>({"memory", group, "BYTES",
                    "Memory for the KV cache, K/M/G accepted; 1G when not given", kCommon},
                   At(&C::memory_bytes)));
  table.push_back(WholeFlag<C>(
      {"context", group, "TOKENS", "Tokens of one sequence; 0: the model's length", kCommon},
      At(&C::context), 0, UINT32_MAX));
  table.push_back(ChoiceFlag<C, uint32_t>(
      {"block-size", group, "TOKENS", "Tokens per KV block: 16, 32 or 64", kCommon},
      At(&C::block_size), {{"16", 16}, {"32", 32}, {"64", 64}}));
  table.push_back(
      SwitchFlag<C>({"json", FlagGroup::kGeneral, nullptr, "Print JSON", kCommon}, At(&C::json)));
  return table;
}

}  // namespace kvs
