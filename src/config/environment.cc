#include "config/environment.h"

#include <fmt/format.h>
#include <unistd.h>

#include <string_view>

#include "config/suggest.h"

namespace kvs {
namespace {

constexpr std::string_view kPrefix = "KVSERVE_";

std::string VariableOf(const FlagSpec& spec) {
  std::string variable(kPrefix);
  for (const char* c = spec.name; *c != '\0'; ++c) {
    variable += *c == '-' ? '_' : static_cast<char>(*c >= 'a' && *c <= 'z' ? *c - 'a' + 'A' : *c);
  }
  return variable;
}

std::vector<std::string> SplitAtCommas(std::string_view text) {
  std::vector<std::string> parts;
  size_t begin = 0;
  for (size_t end = text.find(','); end != std::string_view::npos; end = text.find(',', begin)) {
    parts.emplace_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  parts.emplace_back(text.substr(begin));
  return parts;
}

// Kubernetes sets KVSERVE_PORT=tcp://..., KVSERVE_SERVICE_HOST and the like in every pod beside a
// Service called "kvserve".
bool IsFromServiceLink(std::string_view variable, std::string_view value) {
  return value.substr(0, 6) == "tcp://" || variable.find("_SERVICE_") != std::string_view::npos ||
         variable.find("_TCP") != std::string_view::npos;
}

constexpr std::string_view kServiceLinkHint =
    "; Kubernetes sets it for a Service named 'kvserve': set enableServiceLinks: false in the pod";

}  // namespace

Result<std::vector<Setting>> ReadEnvironment(const char* const* environment,
                                             const std::vector<FlagSpec>& table) {
  std::vector<std::string> names;
  for (const FlagSpec& spec : table) names.push_back(VariableOf(spec));
  std::vector<Setting> settings;
  for (; *environment != nullptr; ++environment) {
    const std::string_view entry = *environment;
    const size_t equals = entry.find('=');
    if (entry.substr(0, kPrefix.size()) != kPrefix || equals == std::string_view::npos) continue;
    const std::string variable(entry.substr(0, equals));
    const std::string_view value = entry.substr(equals + 1);
    size_t index = 0;
    while (index < names.size() && names[index] != variable) ++index;
    if (IsFromServiceLink(variable, value)) {
      return Error(Code::kConfigError, fmt::format("{}: not a setting of kvserve's, got '{}'{}",
                                                   variable, value, kServiceLinkHint));
    }
    if (index == names.size()) {
      return Error(Code::kConfigError,
                   fmt::format("{}: unknown variable{}", variable, Suggestion(variable, names)));
    }
    const FlagKind kind = table[index].kind;
    const bool is_list = kind == FlagKind::kList || kind == FlagKind::kSeveral;
    settings.push_back({table[index].name,
                        is_list ? SplitAtCommas(value) : std::vector{std::string(value)},
                        variable});
  }
  return settings;
}

const char* const* ProcessEnvironment() { return environ; }

}  // namespace kvs
