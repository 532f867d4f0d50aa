// The figures of a load test, and their two forms.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "client/bench_load.h"
#include "client/percentiles.h"

namespace kvs {

struct BenchErrors {
  size_t count = 0;
  std::string example;  // the first message of this kind
};

// Tokens are those of successful requests; rates are per second of wall time.
struct BenchFigures {
  size_t completed = 0;
  double wall_s = 0.0;
  uint64_t prompt_tokens = 0;
  uint64_t output_tokens = 0;
  uint64_t cached_tokens = 0;
  bool cached_tokens_known = false;           // at least one usage said
  Distribution ttft_s;                        // time to first token
  Distribution inter_token_s;                 // all gaps between pieces of text, of all requests
  Distribution total_s;                       // end to end
  std::map<std::string, BenchErrors> errors;  // by kind
};

BenchFigures FiguresOf(const BenchRun& run);

std::string BenchText(const BenchCommand& command, const BenchWorkload& workload,
                      const BenchFigures& figures);
std::string BenchJson(const BenchCommand& command, const BenchWorkload& workload,
                      const BenchFigures& figures);

}  // namespace kvs
