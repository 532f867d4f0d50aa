// The requests of a load test, made before the clock starts.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "client/completions_api.h"
#include "config/config.h"
#include "kvserve/status.h"

namespace kvs {

struct BenchWorkload {
  std::string model;
  bool exact_prompts = false;  // prompts are token ids; else text whose length was estimated
  std::vector<CompletionAsk> asks;
  std::vector<double> start_s;  // open loop: seconds after the start; empty: closed loop
};

// Random prompts of command.prompt_tokens tokens, of which the first shared_prefix_tokens are one
// of num_prefixes prefixes. As token ids where the server can tokenize, else as text calibrated by
// one request. The same seed gives the same prompts; a cache salt new in each run keeps the prefix
// cache cold, so that a repeated run measures the same thing.
//
// kInvalidArgument for lengths that do not fit each other or the model; else what kept the server
// from answering.
Result<BenchWorkload> MakeWorkload(const BenchCommand& command, CompletionsApi* api);

// Arrival times of a Poisson process with `rate` per second.
std::vector<double> PoissonArrivals(uint32_t count, double rate, uint64_t seed);

// Which of a vocabulary's ids make prompt number `index`: a shared prefix, then ids of its own.
PromptIds RandomIds(const BenchCommand& command, const PromptIds& vocabulary, uint32_t index);

}  // namespace kvs
