// Whether two cells gave the same answers, as far as they have to.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "doctor/cell_requests.h"
#include "kvserve/dtype.h"

namespace kvs {

// Greedy texts of two runs may part where two tokens are about equally likely, and say nothing of
// each other from there on. So tokens are compared up to the first that differs, where each run has
// to hold the other's choice for almost as likely as its own.
struct Closeness {
  bool exact = false;           // the same tokens and the same log probabilities, bit for bit
  double gap_max = 0.0;         // nats, of the two choices where the texts part, in either run
  double mean_delta_max = 0.0;  // nats, of the log probabilities of the tokens that are the same

  std::string Describe() const;
};

// With and without prefix hits, at one KV type: exact where a row's bits do not depend on its
// company (the CPU, --batch-invariant); else what another order of summation may do in 16 bits.
Closeness SameTypeCloseness(bool batch_invariant);
// An FP8 cache against a 16-bit one, with scales that fit.
Closeness Fp8Closeness(KvCacheDType fp8_dtype);

// How far apart answers are, by the same rule. Answers whose tokens part where a token is on
// nobody's list are infinitely so.
struct Distance {
  double gap = 0.0;         // the largest
  double mean_delta = 0.0;  // of the worst answer
};
Distance DistanceOf(const std::vector<CellAnswer>& wanted, const std::vector<CellAnswer>& got);

// Empty when close enough; else a sentence's worth of what is not.
std::optional<std::string> FindDifference(const CellAnswer& wanted, const CellAnswer& got,
                                          const Closeness& closeness);
// Answers one by one; the first difference, with the answer's name.
std::optional<std::string> FindDifference(const std::vector<CellAnswer>& wanted,
                                          const std::vector<CellAnswer>& got,
                                          const Closeness& closeness);

}  // namespace kvs
