// One line of the doctor's report.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace kvs {

enum class Outcome : uint8_t { kOk, kWarn, kFail };

constexpr std::string_view ToString(Outcome outcome) {
  return outcome == Outcome::kOk ? "OK" : outcome == Outcome::kWarn ? "WARN" : "FAIL";
}

struct Check {
  std::string name;
  Outcome outcome = Outcome::kOk;
  std::string finding;
  std::string fix = {};  // what to do; empty with kOk
};

inline Check Ok(std::string name, std::string finding) {
  return {std::move(name), Outcome::kOk, std::move(finding)};
}
inline Check Warn(std::string name, std::string finding, std::string fix) {
  return {std::move(name), Outcome::kWarn, std::move(finding), std::move(fix)};
}
inline Check Fail(std::string name, std::string finding, std::string fix) {
  return {std::move(name), Outcome::kFail, std::move(finding), std::move(fix)};
}

}  // namespace kvs
