// The judgement of `kvserve check-cache`, apart from how its figures are had.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "client/completions_api.h"
#include "client/token_compare.h"

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
  std::optional<std::string> kv_cache_dtype;
  std::optional<bool> batch_invariant;  // kvserve alone tells
  AnsweredTokens first_tokens;          // empty: the server sends no log probabilities
  AnsweredTokens second_tokens;
  double ttft_first_s = 0.0;
  double ttft_second_s = 0.0;
};

struct CacheVerdict {
  bool pass = false;
  uint32_t reused_tokens = 0;  // by the second request
  bool close_text = false;     // not the same, but close enough
  std::string reason;          // one sentence
  std::vector<std::string> warnings;
};

// How close the second text has to be where the server does not promise the same bits. Behind a hit
// fewer rows are computed at once, by kernels that sum in another order; FP8 codes of keys and
// values enlarge what that does.
Closeness ClosenessBehindAHit(const std::optional<std::string>& kv_cache_dtype);

// PASS: the second request reused at least one block, and says the same, or, where the server
// computes other bits behind a hit, what is close enough. Times only warn, because other work on
// the machine moves them.
CacheVerdict JudgeCache(const CacheObservation& seen);

}  // namespace kvs
