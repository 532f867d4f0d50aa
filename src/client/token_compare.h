// Whether two answers to one prompt chose the same tokens, or ones that were about as likely.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

namespace kvs {

// One generated token: what was chosen, and what was likely.
struct AnsweredToken {
  std::string text;
  double logprob = 0.0;
  std::map<std::string, double> top;
};
using AnsweredTokens = std::vector<AnsweredToken>;

// Greedy texts of two runs may part where two tokens are about equally likely, and say nothing of
// each other from there on. So tokens are compared up to the first that differs, where each run has
// to hold the other's choice for almost as likely as its own.
struct Closeness {
  bool exact = false;           // the same tokens and the same log probabilities, bit for bit
  double gap_max = 0.0;         // nats, of the two choices where the texts part, in either run
  double mean_delta_max = 0.0;  // nats, of the log probabilities of the tokens that are the same

  std::string Describe() const;
};

// How far apart answers are, by the same rule. Answers whose tokens part where a token is on
// nobody's list are infinitely so.
struct Distance {
  double gap = 0.0;
  double mean_delta = 0.0;
};
Distance DistanceOf(const AnsweredTokens& wanted, const AnsweredTokens& got);

// Empty when close enough; else a sentence's worth of what is not.
std::optional<std::string> FindDifference(const AnsweredTokens& wanted, const AnsweredTokens& got,
                                          const Closeness& closeness);

}  // namespace kvs
