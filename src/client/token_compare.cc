#include "client/token_compare.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace kvs {
namespace {

// How much less likely `run` holds `other` than its own choice; empty when it is not on its list.
std::optional<double> GapTo(const AnsweredToken& run, const AnsweredToken& other) {
  const auto found = run.top.find(other.text);
  if (found == run.top.end()) return std::nullopt;
  return run.logprob - found->second;
}

std::optional<std::string> FindExactDifference(const AnsweredTokens& wanted,
                                               const AnsweredTokens& got, size_t position) {
  const AnsweredToken& want = wanted[position];
  const AnsweredToken& have = got[position];
  if (want.text != have.text) {
    return fmt::format("token {} is '{}' instead of '{}'", position + 1, have.text, want.text);
  }
  if (want.logprob == have.logprob) return std::nullopt;
  return fmt::format("token {} has log probability {} instead of {}", position + 1, have.logprob,
                     want.logprob);
}

// The tokens differ at `position`: are both choices near to each other?
std::optional<std::string> FindParting(const AnsweredTokens& wanted, const AnsweredTokens& got,
                                       size_t position, const Closeness& closeness) {
  const AnsweredToken& want = wanted[position];
  const AnsweredToken& have = got[position];
  const auto gap = GapTo(want, have), gap_back = GapTo(have, want);
  const std::string both =
      fmt::format("token {} is '{}' instead of '{}'", position + 1, have.text, want.text);
  if (!gap || !gap_back) return both + ", which is not among the likely ones";
  const double larger = std::max(*gap, *gap_back);
  if (larger <= closeness.gap_max) return std::nullopt;
  return fmt::format("{}, {:.2f} nats apart (allowed {:.2f})", both, larger, closeness.gap_max);
}

}  // namespace

std::string Closeness::Describe() const {
  if (exact) return "bit for bit";
  return fmt::format("within {} nats a token on average, {} where texts part", mean_delta_max,
                     gap_max);
}

Distance DistanceOf(const AnsweredTokens& wanted, const AnsweredTokens& got) {
  Distance distance;
  double sum = 0.0;
  size_t num_same = 0;
  for (size_t i = 0; i < wanted.size() && i < got.size(); ++i) {
    const AnsweredToken &want = wanted[i], &have = got[i];
    if (want.text != have.text) {
      constexpr double kFar = std::numeric_limits<double>::infinity();
      distance.gap = std::max(GapTo(want, have).value_or(kFar), GapTo(have, want).value_or(kFar));
      break;
    }
    sum += std::abs(want.logprob - have.logprob);
    ++num_same;
  }
  distance.mean_delta = num_same == 0 ? 0.0 : sum / static_cast<double>(num_same);
  return distance;
}

std::optional<std::string> FindDifference(const AnsweredTokens& wanted, const AnsweredTokens& got,
                                          const Closeness& closeness) {
  bool parts = false;
  for (size_t i = 0; i < wanted.size() && i < got.size() && !parts; ++i) {
    if (closeness.exact) {
      if (auto difference = FindExactDifference(wanted, got, i)) return difference;
    } else if (wanted[i].text != got[i].text) {
      if (auto parting = FindParting(wanted, got, i, closeness)) return parting;
      parts = true;
    }
  }
  if (!parts && wanted.size() != got.size()) {
    return fmt::format("{} tokens instead of {}", got.size(), wanted.size());
  }
  const double mean = DistanceOf(wanted, got).mean_delta;
  if (closeness.exact || mean <= closeness.mean_delta_max) return std::nullopt;
  return fmt::format("log probabilities differ by {:.2f} nats a token (allowed {:.2f})", mean,
                     closeness.mean_delta_max);
}

}  // namespace kvs
