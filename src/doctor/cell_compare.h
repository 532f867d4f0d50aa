// Whether two cells gave the same answers, as far as they have to.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "client/token_compare.h"
#include "doctor/cell_requests.h"
#include "kvserve/dtype.h"

namespace kvs {

// With and without prefix hits, at one KV type: exact where a row's bits do not depend on its
// company (the CPU, --batch-invariant); else what another order of summation may do in 16 bits.
Closeness SameTypeCloseness(bool batch_invariant);
// An FP8 cache against a 16-bit one, with scales that fit.
Closeness Fp8Closeness(KvCacheDType fp8_dtype);

// The largest of all answers.
Distance DistanceOf(const std::vector<CellAnswer>& wanted, const std::vector<CellAnswer>& got);

// Empty when close enough; else a sentence's worth of what is not.
std::optional<std::string> FindDifference(const CellAnswer& wanted, const CellAnswer& got,
                                          const Closeness& closeness);
// Answers one by one; the first difference, with the answer's name.
std::optional<std::string> FindDifference(const std::vector<CellAnswer>& wanted,
                                          const std::vector<CellAnswer>& got,
                                          const Closeness& closeness);

}  // namespace kvs
