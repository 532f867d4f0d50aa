// The judgement of `kvserve check-cache`, apart from how its figures are had.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "client/completions_api.h"

namespace kvs {

// Two requests with one prompt that the server has not seen before.
struct CacheObservation {
  uint32_t prompt_tokens = 0;
  std::optional<uint32_t> block_size;
  std::optional<bool> enable_prefix_caching;
  std::optional<uint32_t> cached_first;   // tokens, from usage
  std::optional<uint32_t> cached_second;  // tokens, from usage
  // Growth of the server's counters over each request; empty without such counters.
  std::optional<PrefixCounters> grown_first;
  std::optional<PrefixCounters> grown_second;
  bool same_text = false;
  double ttft_first_s = 0.0;
  double ttft_second_s = 0.0;
};

struct CacheVerdict {
  bool pass = false;
  uint32_t reused_tokens = 0;  // by the second request
  std::string reason;          // one sentence
  std::vector<std::string> warnings;
};

// PASS: the second request reused at least one block, and says the same. Times only warn, because
// other work on the machine moves them.
CacheVerdict JudgeCache(const CacheObservation& seen);

}  // namespace kvs
