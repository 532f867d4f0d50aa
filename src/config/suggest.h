// "Did you mean": the closest of a list of names, by edit distance.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace kvs {

// Insertions, deletions and substitutions that turn `a` into `b` (Levenshtein 1966).
size_t EditDistance(std::string_view a, std::string_view b);

// "; did you mean 'NAME'?" for the closest of `names`, or "" when none is close.
std::string Suggestion(std::string_view unknown, const std::vector<std::string>& names);

}  // namespace kvs
