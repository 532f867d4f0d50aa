#include "config/parse_value.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>

namespace kvs {
namespace {

// The number `text` starts with; what follows it goes to `rest`. False without a number that fits.
template <class T>
bool ReadNumber(std::string_view text, T& number, std::string_view& rest) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc()) return false;
  rest = text.substr(static_cast<size_t>(end - text.data()));
  return true;
}

// Bits to shift by for a unit, or -1.
int ShiftOfUnit(std::string_view unit) {
  constexpr std::string_view kUnits = "KMGT";
  if (unit.empty()) return 0;
  const char first = unit[0] >= 'a' ? static_cast<char>(unit[0] - 'a' + 'A') : unit[0];
  const size_t index = kUnits.find(first);
  if (index == std::string_view::npos) return -1;
  const std::string_view tail = unit.substr(1);
  if (!tail.empty() && tail != "iB" && tail != "ib") return -1;
  return 10 * (static_cast<int>(index) + 1);
}

}  // namespace

tl::unexpected<Status> ExpectedError(std::string_view allowed, std::string_view text) {
  return Error(Code::kInvalidArgument, fmt::format("expected {}, got '{}'", allowed, text));
}

Result<bool> ParseBool(std::string_view text) {
  if (text == "true" || text == "1") return true;
  if (text == "false" || text == "0") return false;
  return ExpectedError("true or false", text);
}

Result<uint64_t> ParseWhole(std::string_view text, uint64_t min, uint64_t max) {
  uint64_t number = 0;
  std::string_view rest;
  if (ReadNumber(text, number, rest) && rest.empty() && number >= min && number <= max) {
    return number;
  }
  return ExpectedError(fmt::format("a whole number from {} to {}", min, max), text);
}

Result<uint64_t> ParseBytes(std::string_view text) {
  uint64_t number = 0;
  std::string_view unit;
  if (ReadNumber(text, number, unit) && number > 0) {
    const int shift = ShiftOfUnit(unit);
    if (shift >= 0 && number <= (UINT64_MAX >> shift)) return number << shift;
  }
  return ExpectedError("a number of bytes such as 1073741824, 512M or 4GiB", text);
}

Result<double> ParseReal(std::string_view text, double min, double max) {
  double number = 0.0;
  std::string_view rest;
  if (ReadNumber(text, number, rest) && rest.empty() && std::isfinite(number) && number >= min &&
      number <= max) {
    return number;
  }
  return ExpectedError(fmt::format("a number from {} to {}", min, max), text);
}

bool IsRevision(const std::string& text) {
  constexpr size_t kBytesMax = 200;
  const auto is_good = [](unsigned char c) {
    return std::isalnum(c) != 0 || std::string_view("._-/").find(c) != std::string_view::npos;
  };
  return !text.empty() && text.size() <= kBytesMax &&
         std::all_of(text.begin(), text.end(), is_good) && text.find("..") == std::string::npos &&
         text.find("//") == std::string::npos && text.front() != '/' && text.back() != '/' &&
         text.front() != '.' && text.front() != '-';
}

}  // namespace kvs
