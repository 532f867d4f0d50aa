#include "client/bench_workload.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "client/random_text.h"

namespace kvs {
namespace {

constexpr uint32_t kProbeWords = 128;

// Streams of random numbers that do not overlap: one for each prefix, prompt and the arrivals.
enum class Purpose : uint64_t { kPrefix = 1, kPrompt = 2, kArrivals = 3 };

std::mt19937_64 RandomFor(uint64_t seed, Purpose purpose, uint64_t index) {
  std::seed_seq sequence{static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32),
                         static_cast<uint32_t>(purpose), static_cast<uint32_t>(index)};
  return std::mt19937_64(sequence);
}

// Words of one prompt, of which the first are the shared prefix.
std::string RandomPrompt(const BenchCommand& command, double tokens_per_word, uint32_t index) {
  const auto words = [&](uint32_t tokens) {
    return static_cast<uint32_t>(std::lround(tokens / tokens_per_word));
  };
  auto prefix = RandomFor(command.seed, Purpose::kPrefix, index % command.num_prefixes);
  auto rest = RandomFor(command.seed, Purpose::kPrompt, index);
  const uint32_t num_prefix_words = words(command.shared_prefix_tokens);
  const uint32_t num_words = std::max(1u, words(command.prompt_tokens));
  return RandomWords(num_prefix_words, prefix) + RandomWords(num_words - num_prefix_words, rest);
}

Result<double> TokensPerWord(const std::string& model, CompletionsApi* api) {
  auto random = RandomFor(0, Purpose::kPrompt, 0);
  CompletionAsk ask;
  ask.model = model;
  ask.prompt = RandomWords(kProbeWords, random);
  ask.max_tokens = 1;
  const auto probe = api->Complete(ask);
  if (!probe) return tl::unexpected(probe.error().status);
  if (!probe->usage || probe->usage->prompt_tokens == 0) {
    return Error(Code::kDataError,
                 "the server neither tokenizes (/tokenize) nor sends usage with "
                 "stream_options.include_usage, so prompts of a given length cannot be made");
  }
  return probe->usage->prompt_tokens / static_cast<double>(kProbeWords);
}

Result<void> MakePrompts(const BenchCommand& command, CompletionsApi* api,
                         BenchWorkload* workload) {
  if (auto vocabulary = api->Tokenize(workload->model, AllWords())) {
    workload->exact_prompts = true;
    for (uint32_t i = 0; i < command.num_prompts; ++i) {
      workload->asks[i].prompt = RandomIds(command, *vocabulary, i);
    }
    return {};
  }
  const auto tokens_per_word = TokensPerWord(workload->model, api);
  if (!tokens_per_word) return tl::unexpected(tokens_per_word.error());
  for (uint32_t i = 0; i < command.num_prompts; ++i) {
    workload->asks[i].prompt = RandomPrompt(command, *tokens_per_word, i);
  }
  return {};
}

}  // namespace

PromptIds RandomIds(const BenchCommand& command, const PromptIds& vocabulary, uint32_t index) {
  auto prefix = RandomFor(command.seed, Purpose::kPrefix, index % command.num_prefixes);
  auto rest = RandomFor(command.seed, Purpose::kPrompt, index);
  PromptIds ids;
  ids.reserve(command.prompt_tokens);
  for (uint32_t i = 0; i < command.prompt_tokens; ++i) {
    auto& random = i < command.shared_prefix_tokens ? prefix : rest;
    ids.push_back(vocabulary[random() % vocabulary.size()]);
  }
  return ids;
}

std::vector<double> PoissonArrivals(uint32_t count, double rate, uint64_t seed) {
  auto random = RandomFor(seed, Purpose::kArrivals, 0);
  std::vector<double> times;
  double now = 0.0;
  for (uint32_t i = 0; i < count; ++i) {
    times.push_back(now);
    // 53 random bits make a uniform number in [0, 1).
    const double uniform = static_cast<double>(random() >> 11) * 0x1p-53;
    now -= std::log1p(-uniform) / rate;
  }
  return times;
}

Result<BenchWorkload> MakeWorkload(const BenchCommand& command, CompletionsApi* api) {
  if (command.shared_prefix_tokens > command.prompt_tokens) {
    return Error(Code::kInvalidArgument,
                 fmt::format("--shared-prefix-tokens {} is more than --prompt-tokens {}",
                             command.shared_prefix_tokens, command.prompt_tokens),
                 "--shared-prefix-tokens");
  }
  const auto model = api->FindModel(command.model);
  if (!model) return tl::unexpected(model.error());
  const uint64_t wanted = uint64_t{command.prompt_tokens} + command.output_tokens;
  if (model->max_model_len && wanted > *model->max_model_len) {
    return Error(Code::kInvalidArgument,
                 fmt::format("--prompt-tokens {} and --output-tokens {} do not fit the model's {} "
                             "tokens",
                             command.prompt_tokens, command.output_tokens, *model->max_model_len));
  }
  BenchWorkload workload;
  workload.model = model->id;
  std::random_device device;
  CompletionAsk ask;
  ask.model = model->id;
  ask.max_tokens = command.output_tokens;
  ask.exact_length = true;
  ask.cache_salt = fmt::format("bench-{:08x}{:08x}", device(), device());
  workload.asks.assign(command.num_prompts, ask);
  KVS_RETURN_IF_ERROR(MakePrompts(command, api, &workload));
  if (command.request_rate > 0.0) {
    workload.start_s = PoissonArrivals(command.num_prompts, command.request_rate, command.seed);
  }
  return workload;
}

}  // namespace kvs
