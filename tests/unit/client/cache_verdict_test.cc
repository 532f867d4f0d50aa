#include "client/cache_verdict.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

namespace kvs {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// A server that reuses all it can: 512 of 520 tokens.
CacheObservation Good() {
  CacheObservation seen;
  seen.prompt_tokens = 520;
  seen.block_size = 16;
  seen.enable_prefix_caching = true;
  seen.cached_first = 0;
  seen.cached_second = 512;
  seen.grown_first = PrefixCounters{520, 0};
  seen.grown_second = PrefixCounters{520, 512};
  seen.same_text = true;
  seen.ttft_first_s = 0.050;
  seen.ttft_second_s = 0.005;
  return seen;
}

// A text that parts from the first one's where two tokens are `gap` apart, after one whose log
// probabilities differ by `delta`.
void Part(CacheObservation& seen, double gap, double delta = 0.0) {
  seen.same_text = false;
  seen.first_tokens = {{" x", -0.5, {}}, {" a", -0.5, {{" a", -0.5}, {" b", -0.5 - gap}}}};
  seen.second_tokens = {{" x", -0.5 - delta, {}}, {" b", -0.5, {{" b", -0.5}, {" a", -0.5 - gap}}}};
}

struct Case {
  const char* name;
  std::function<void(CacheObservation&)> change;
  bool pass;
  const char* reason;
};

const Case kCases[] = {
    {"good", [](auto&) {}, true, "512 of 520 prompt tokens were reused"},
    {"usage alone",
     [](auto& s) {
       s.grown_first = s.grown_second = std::nullopt;
       s.block_size = std::nullopt;
       s.enable_prefix_caching = std::nullopt;
     },
     true, "512 of 520"},
    {"counters alone", [](auto& s) { s.cached_first = s.cached_second = std::nullopt; }, true,
     "512 of 520"},
    {"counters alone, disturbed",
     [](auto& s) {
       s.cached_second = std::nullopt;
       s.grown_second = PrefixCounters{5000, 4000};
     },
     true, "520 of 520"},
    {"a block is enough", [](auto& s) { s.cached_second = 16; }, true, "16 of 520"},
    {"slower is no failure", [](auto& s) { s.ttft_second_s = 1.0; }, true, "512 of 520"},
    {"first hit a begin-of-text token", [](auto& s) { s.cached_first = 1; }, true, "512 of 520"},

    {"not enabled",
     [](auto& s) {
       s.enable_prefix_caching = false;
       s.cached_second = 0;
       s.grown_second = PrefixCounters{0, 0};
     },
     false, "start the server with --enable-prefix-caching"},
    {"below one block",
     [](auto& s) {
       s.prompt_tokens = 16;
       s.cached_second = 0;
       s.grown_second = PrefixCounters{16, 0};
     },
     false, "16 tokens holds no block of 16"},
    {"one token more than a block is enough, so the reason is another",
     [](auto& s) {
       s.prompt_tokens = 17;
       s.cached_second = 0;
       s.grown_second = PrefixCounters{17, 0};
     },
     false, "none of 17 prompt tokens"},
    {"not looked up",
     [](auto& s) {
       s.cached_second = 0;
       s.grown_second = PrefixCounters{0, 0};
       s.enable_prefix_caching = std::nullopt;
     },
     false, "did not look the prompt up"},
    {"looked up, no hit",
     [](auto& s) {
       s.cached_second = 0;
       s.grown_second = PrefixCounters{520, 0};
     },
     false, "none of 520 prompt tokens was reused although the texts are identical"},
    {"nothing reported",
     [](auto& s) {
       s.cached_first = s.cached_second = std::nullopt;
       s.grown_first = s.grown_second = std::nullopt;
     },
     false, "reuse cannot be shown"},
    {"hit, other text", [](auto& s) { s.same_text = false; }, false,
     "512 tokens were reused, but the text differs"},
    {"hit, text that rounding explains", [](auto& s) { Part(s, 0.4); }, true, "is close enough"},
    {"hit, text that rounding does not explain", [](auto& s) { Part(s, 0.6); }, false,
     "by more than rounding: token 2 is ' b' instead of ' a', 0.60 nats apart (allowed 0.50)"},
    {"log probabilities that rounding does not explain", [](auto& s) { Part(s, 0.1, 0.15); }, false,
     "log probabilities differ by 0.15 nats a token (allowed 0.10)"},
    {"FP8 rounds more",
     [](auto& s) {
       Part(s, 0.1, 0.15);
       s.kv_cache_dtype = "fp8_e4m3";
     },
     true, "is close enough"},
    {"no rounding where bits are the same",
     [](auto& s) {
       Part(s, 0.0);
       s.batch_invariant = true;
     },
     false, "computes the same bits behind a hit"},
    {"rounding is no excuse without a hit",
     [](auto& s) {
       Part(s, 0.0);
       s.cached_second = 0;
     },
     false, "although nothing was reused"},
    {"no hit, other text",
     [](auto& s) {
       s.same_text = false;
       s.cached_second = 0;
       s.grown_second = PrefixCounters{520, 0};
     },
     false, "not deterministic at temperature 0"},
    {"more than the prompt", [](auto& s) { s.cached_second = 521; }, false, "521 tokens"},
    {"a fresh prompt hit a block", [](auto& s) { s.cached_first = 16; }, false,
     "never sent before was counted with 16"},
    {"counters behind usage",
     [](auto& s) {
       s.grown_second = PrefixCounters{520, 0};
     },
     false, "hit counter grew by 0"},
};

TEST(CacheVerdict, Table) {
  for (const Case& c : kCases) {
    CacheObservation seen = Good();
    c.change(seen);
    const CacheVerdict verdict = JudgeCache(seen);
    EXPECT_EQ(verdict.pass, c.pass) << c.name << ": " << verdict.reason;
    EXPECT_THAT(verdict.reason, HasSubstr(c.reason)) << c.name;
  }
}

TEST(CacheVerdict, WarnsOnlyWhenThereIsSomethingToSay) {
  EXPECT_THAT(JudgeCache(Good()).warnings, IsEmpty());
  EXPECT_EQ(JudgeCache(Good()).reused_tokens, 512u);

  CacheObservation slow = Good();
  slow.ttft_second_s = slow.ttft_first_s;
  EXPECT_THAT(JudgeCache(slow).warnings,
              ElementsAre(HasSubstr("not lower (50.0 ms after 50.0 ms)")));

  CacheObservation close = Good();
  Part(close, 0.25);
  EXPECT_THAT(JudgeCache(close).warnings, ElementsAre(HasSubstr("0.25 nats apart (allowed 0.5;")));

  CacheObservation evicted = Good();
  evicted.cached_second = 496;
  evicted.grown_second->hits = 496;
  EXPECT_THAT(JudgeCache(evicted).warnings, ElementsAre(HasSubstr("only 496 of 512")));

  CacheObservation disturbed = Good();
  disturbed.grown_second->hits = 900;
  EXPECT_THAT(JudgeCache(disturbed).warnings,
              ElementsAre(HasSubstr("grew by 900 tokens for 512 reused")));

  CacheObservation begin_of_text = Good();
  begin_of_text.cached_first = 1;
  EXPECT_THAT(JudgeCache(begin_of_text).warnings, ElementsAre(HasSubstr("1 cached tokens")));
}

}  // namespace
}  // namespace kvs
