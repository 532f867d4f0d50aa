#include "client/cache_verdict.h"

#include <fmt/format.h>

#include <algorithm>

namespace kvs {
namespace {

// Servers that match single tokens may find a first token or two of any prompt (a begin-of-text
// token); a whole block of random words that nobody sent is wrong.
constexpr uint32_t kFalseHitTokens = 16;

// Tokens that whole blocks can give back: the last token is always computed.
uint32_t ReusableTokens(uint32_t prompt_tokens, uint32_t block_size) {
  return prompt_tokens == 0 ? 0 : (prompt_tokens - 1) / block_size * block_size;
}

std::string WhyNoHit(const CacheObservation& seen) {
  if (seen.enable_prefix_caching == false) {
    return "prefix caching is not enabled; start the server with --enable-prefix-caching";
  }
  if (seen.block_size && ReusableTokens(seen.prompt_tokens, *seen.block_size) == 0) {
    return fmt::format(
        "a prompt of {} tokens holds no block of {} tokens that could be reused; raise "
        "--prompt-tokens",
        seen.prompt_tokens, *seen.block_size);
  }
  if (!seen.cached_second && !seen.grown_second) {
    return "the server reports neither cached_tokens in usage nor prefix cache counters in "
           "/metrics, so reuse cannot be shown";
  }
  if (seen.grown_second && seen.grown_second->queries == 0) {
    return "nothing was reused, and the server did not look the prompt up; is prefix caching "
           "enabled?";
  }
  return fmt::format(
      "none of {} prompt tokens was reused although the texts are identical; is prefix caching "
      "enabled, and is the pool large enough to keep the prompt?",
      seen.prompt_tokens);
}

std::vector<std::string> WarningsOf(const CacheObservation& seen, uint32_t reused) {
  std::vector<std::string> warnings;
  if (seen.ttft_second_s >= seen.ttft_first_s) {
    warnings.push_back(fmt::format(
        "the second time to first token is not lower ({:.1f} ms after {:.1f} ms); a longer prompt "
        "or an idle server shows it better",
        seen.ttft_second_s * 1e3, seen.ttft_first_s * 1e3));
  }
  if (seen.block_size) {
    const uint32_t reusable = ReusableTokens(seen.prompt_tokens, *seen.block_size);
    if (reused < reusable) {
      warnings.push_back(fmt::format(
          "only {} of {} tokens in whole blocks were reused; the others may have been evicted",
          reused, reusable));
    }
  }
  if (seen.cached_second && seen.grown_second && seen.grown_second->hits > *seen.cached_second) {
    warnings.push_back(
        fmt::format("the hit counter grew by {} tokens for {} reused; other requests ran meanwhile",
                    seen.grown_second->hits, *seen.cached_second));
  }
  if (seen.cached_first.value_or(0) > 0) {
    warnings.push_back(
        fmt::format("the first request was counted with {} cached tokens", *seen.cached_first));
  }
  return warnings;
}

// Of two texts that are not the same; empty when they are close enough.
std::string WhyTextDiffers(const CacheObservation& seen, uint32_t reused) {
  if (reused == 0) {
    return "the two texts differ although nothing was reused: the server is not deterministic at "
           "temperature 0";
  }
  const std::string start =
      fmt::format("{} tokens were reused, but the text differs from the first request's", reused);
  if (seen.batch_invariant == true) {
    return start +
           ", and this server computes the same bits behind a hit: the reused blocks are not what "
           "the prompt needs";
  }
  if (seen.first_tokens.empty() || seen.second_tokens.empty()) {
    return start +
           ": the reused blocks are not what the prompt needs, or the server is not deterministic "
           "at temperature 0; it sends no log probabilities that would tell how far";
  }
  const auto difference = FindDifference(seen.first_tokens, seen.second_tokens,
                                         ClosenessBehindAHit(seen.kv_cache_dtype));
  return difference ? fmt::format("{} by more than rounding: {}", start, *difference) : "";
}

std::string AboutCloseText(const CacheObservation& seen) {
  const Distance distance = DistanceOf(seen.first_tokens, seen.second_tokens);
  const Closeness allowed = ClosenessBehindAHit(seen.kv_cache_dtype);
  return fmt::format(
      "the texts part at a token that both hold for about as likely, {:.2f} nats apart (allowed "
      "{}; {:.3f} nats a token before that, allowed {}): behind a hit fewer rows are computed at "
      "once, and summed in another order; with --batch-invariant, or on a CPU, kvserve computes "
      "the same bits",
      distance.gap, allowed.gap_max, distance.mean_delta, allowed.mean_delta_max);
}

uint32_t ReusedTokens(const CacheObservation& seen) {
  if (seen.cached_second) return *seen.cached_second;
  if (!seen.grown_second) return 0;
  return static_cast<uint32_t>(std::min<uint64_t>(seen.grown_second->hits, seen.prompt_tokens));
}

}  // namespace

Closeness ClosenessBehindAHit(const std::optional<std::string>& kv_cache_dtype) {
  const bool fp8 = kv_cache_dtype && kv_cache_dtype->starts_with("fp8");
  return {.gap_max = 0.5, .mean_delta_max = fp8 ? 0.2 : 0.1};
}

CacheVerdict JudgeCache(const CacheObservation& seen) {
  CacheVerdict verdict;
  verdict.reused_tokens = ReusedTokens(seen);
  const uint32_t reused = verdict.reused_tokens;
  if (!seen.same_text) {
    const std::string difference = WhyTextDiffers(seen, reused);
    verdict.close_text = difference.empty();
    if (!verdict.close_text) {
      verdict.reason = difference;
      return verdict;
    }
  }
  if (reused == 0) {
    verdict.reason = WhyNoHit(seen);
    return verdict;
  }
  if (reused > seen.prompt_tokens) {
    verdict.reason = fmt::format("{} tokens of a prompt of {} are said to be reused", reused,
                                 seen.prompt_tokens);
    return verdict;
  }
  if (seen.cached_first.value_or(0) >= seen.block_size.value_or(kFalseHitTokens)) {
    verdict.reason =
        fmt::format("a prompt that was never sent before was counted with {} cached tokens",
                    *seen.cached_first);
    return verdict;
  }
  if (seen.cached_second && seen.grown_second && seen.grown_second->hits < *seen.cached_second) {
    verdict.reason = fmt::format(
        "usage says {} tokens were reused, but the hit counter grew by {}; does /metrics belong to "
        "another replica?",
        reused, seen.grown_second->hits);
    return verdict;
  }
  verdict.pass = true;
  verdict.reason =
      fmt::format("{} of {} prompt tokens were reused and the text is {}", reused,
                  seen.prompt_tokens, verdict.close_text ? "close enough" : "identical");
  verdict.warnings = WarningsOf(seen, reused);
  if (verdict.close_text) verdict.warnings.push_back(AboutCloseText(seen));
  return verdict;
}

}  // namespace kvs
