// From text to typed values. Every error reads "expected WHAT, got 'TEXT'"; the caller puts in
// front where the text stood.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kvserve/status.h"

namespace kvs {

// true, false, 1, 0.
Result<bool> ParseBool(std::string_view text);
// Decimal digits only, within [min, max].
Result<uint64_t> ParseWhole(std::string_view text, uint64_t min, uint64_t max);
// A whole number with an optional unit: K, M, G, T or KiB, MiB, GiB, TiB, powers of 1024. > 0.
Result<uint64_t> ParseBytes(std::string_view text);
// A finite decimal number within [min, max].
Result<double> ParseReal(std::string_view text, double min, double max);

tl::unexpected<Status> ExpectedError(std::string_view allowed, std::string_view text);

template <class T>
struct Choice {
  std::string_view name;
  T value;
};

// One of a few names.
template <class T>
Result<T> ParseChoice(std::string_view text, const std::vector<Choice<T>>& choices) {
  std::string names;
  for (const Choice<T>& choice : choices) {
    if (choice.name == text) return choice.value;
    if (!names.empty()) names += ", ";
    names += choice.name;
  }
  return ExpectedError("one of " + names, text);
}

// Whether `text` can name a revision on the Hub; it becomes a part of paths and URLs.
bool IsRevision(const std::string& text);
inline constexpr char kRevisionAllowed[] =
    "a branch, tag or commit: letters, digits and . _ - /, without '..' and without '/' at an end";

}  // namespace kvs
