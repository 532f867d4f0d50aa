#include "config/environment.h"

#include <fmt/format.h>
#include <strings.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <string_view>

#include "config/suggest.h"

namespace kvs {
namespace {

constexpr std::string_view kPrefix = "KVSERVE_";
constexpr size_t kTokenBytesMax = 4096;

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

// The value of `name`; empty when it is not set.
std::string_view ValueOf(const char* const* environment, std::string_view name) {
  for (; *environment != nullptr; ++environment) {
    const std::string_view entry = *environment;
    if (entry.size() > name.size() && entry[name.size()] == '=' &&
        entry.substr(0, name.size()) == name) {
      return entry.substr(name.size() + 1);
    }
  }
  return {};
}

bool IsTrue(std::string_view value) {
  return value == "1" || strcasecmp(std::string(value).c_str(), "on") == 0 ||
         strcasecmp(std::string(value).c_str(), "yes") == 0 ||
         strcasecmp(std::string(value).c_str(), "true") == 0;
}

// A path in which "~" stands for `home`.
std::string Expanded(std::string_view path, std::string_view home) {
  if (path == "~" || path.substr(0, 2) == "~/") return std::string(home).append(path.substr(1));
  return std::string(path);
}

std::string_view Trimmed(std::string_view text) {
  constexpr std::string_view kBlanks = " \t\r\n";
  const size_t begin = text.find_first_not_of(kBlanks);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kBlanks) + 1 - begin);
}

// The token goes into a header as it is.
Result<std::string> CheckedToken(std::string_view text, const std::string& where) {
  const std::string_view token = Trimmed(text);
  for (const char c : token) {
    if (c > 32 && c < 127) continue;
    return Error(Code::kConfigError,
                 fmt::format("{}: expected a token of visible ASCII characters without spaces, got "
                             "{} bytes (not shown)",
                             where, token.size()));
  }
  return std::string(token);
}

Result<std::string> ReadHubToken(const char* const* environment, const std::string& token_path) {
  const std::string_view given = ValueOf(environment, "HF_TOKEN");
  if (!Trimmed(given).empty()) return CheckedToken(given, "HF_TOKEN");
  std::ifstream file(token_path, std::ios::binary);
  std::string text(kTokenBytesMax, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(std::max<std::streamsize>(file.gcount(), 0)));
  return CheckedToken(text, fmt::format("the token file '{}'", token_path));
}

// Each name in small letters counts over the same in capitals, as for curl.
ProxyOptions ReadProxies(const char* const* environment) {
  const auto either = [&](std::string_view small, std::string_view capital) {
    const std::string_view first = Trimmed(ValueOf(environment, small));
    return std::string(first.empty() ? Trimmed(ValueOf(environment, capital)) : first);
  };
  const std::string all = either("all_proxy", "ALL_PROXY");
  ProxyOptions options{either("https_proxy", "HTTPS_PROXY"), either("http_proxy", "HTTP_PROXY"),
                       either("no_proxy", "NO_PROXY")};
  if (options.for_https.empty()) options.for_https = all;
  if (options.for_http.empty()) options.for_http = all;
  return options;
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

Result<HubOptions> ReadHubEnvironment(const char* const* environment) {
  const auto value = [&](std::string_view name) { return ValueOf(environment, name); };
  const std::string_view home = value("HOME");
  const auto path_of = [&](std::string_view name, const std::string& otherwise) {
    return value(name).empty() ? otherwise : Expanded(value(name), home);
  };
  const std::string cache_home = path_of("XDG_CACHE_HOME", std::string(home) + "/.cache");
  const std::string hf_home = path_of("HF_HOME", cache_home + "/huggingface");
  HubOptions options;
  options.cache_dir = path_of("HF_HUB_CACHE", path_of("HUGGINGFACE_HUB_CACHE", hf_home + "/hub"));
  if (home.empty() && value("HF_HOME").empty() && value("HF_HUB_CACHE").empty()) {
    return Error(Code::kConfigError,
                 "HF_HOME: neither HF_HOME nor HOME is set; expected a directory for models");
  }
  options.offline = IsTrue(value("HF_HUB_OFFLINE").empty() ? value("TRANSFORMERS_OFFLINE")
                                                           : value("HF_HUB_OFFLINE"));
  if (!value("HF_ENDPOINT").empty()) options.endpoint = value("HF_ENDPOINT");
  while (!options.endpoint.empty() && options.endpoint.back() == '/') options.endpoint.pop_back();
  auto token = ReadHubToken(environment, path_of("HF_TOKEN_PATH", hf_home + "/token"));
  if (!token) return tl::unexpected(std::move(token).error());
  options.token = *std::move(token);
  options.proxy = ReadProxies(environment);
  return options;
}

std::string CacheDirOf(const char* const* environment) {
  const std::string cache_home(ValueOf(environment, "XDG_CACHE_HOME"));
  if (cache_home.starts_with('/')) return cache_home + "/kvserve";
  const std::string home(ValueOf(environment, "HOME"));
  return home.starts_with('/') ? home + "/.cache/kvserve" : std::string();
}

Result<std::string> ReadStateDir(const char* const* environment) {
  const std::string state_home(ValueOf(environment, "XDG_STATE_HOME"));
  if (state_home.starts_with('/')) return state_home + "/kvserve";
  const std::string home(ValueOf(environment, "HOME"));
  if (home.starts_with('/')) return home + "/.local/state/kvserve";
  return Error(Code::kConfigError,
               "XDG_STATE_HOME: neither it nor HOME is an absolute path; expected a directory for "
               "what is known of this machine");
}

const char* const* ProcessEnvironment() { return environ; }

}  // namespace kvs
