#include "net/proxy.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <string_view>

namespace kvs {
namespace {

struct IpAddress {
  int family;
  std::array<unsigned char, sizeof(in6_addr)> bytes;
};

std::optional<IpAddress> ParseIp(std::string_view text) {
  const std::string host(text);
  for (const int family : {AF_INET, AF_INET6}) {
    IpAddress address{family, {}};
    if (inet_pton(family, host.c_str(), address.bytes.data()) == 1) return address;
  }
  return std::nullopt;
}

std::optional<uint32_t> WholeNumber(std::string_view text) {
  uint32_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

bool HasPrefix(const IpAddress& address, const IpAddress& network, uint32_t bits) {
  if (address.family != network.family) return false;
  if (bits > (address.family == AF_INET ? 32u : 128u)) return false;
  const size_t whole = bits / 8;
  if (std::memcmp(address.bytes.data(), network.bytes.data(), whole) != 0) return false;
  const auto mask = static_cast<unsigned char>(0xff00u >> (bits % 8));
  return bits % 8 == 0 || ((address.bytes[whole] ^ network.bytes[whole]) & mask) == 0;
}

// `host` is `name`, or stands below it.
bool IsWithin(std::string_view host, std::string_view name) {
  if (EqualsIgnoringCase(host, name)) return true;
  return host.size() > name.size() && host[host.size() - name.size() - 1] == '.' &&
         EqualsIgnoringCase(host.substr(host.size() - name.size()), name);
}

bool IsExempt(const Url& server, std::string_view entry) {
  if (entry == "*") return true;
  const auto address = ParseIp(server.host);
  if (const size_t slash = entry.find('/'); slash != std::string_view::npos) {
    const auto network = ParseIp(entry.substr(0, slash));
    const auto bits = WholeNumber(entry.substr(slash + 1));
    return address && network && bits && HasPrefix(*address, *network, *bits);
  }
  if (entry.substr(0, 1) == "[") {  // [v6] or [v6]:port
    const size_t close = std::min(entry.find(']'), entry.size());
    if (entry.substr(close) != "]" && entry.substr(close) != fmt::format("]:{}", server.port)) {
      return false;
    }
    entry = entry.substr(1, close - 1);
  } else if (std::count(entry.begin(), entry.end(), ':') == 1) {
    const size_t colon = entry.find(':');
    if (WholeNumber(entry.substr(colon + 1)) != server.port) return false;
    entry = entry.substr(0, colon);
  }
  if (const auto listed = ParseIp(entry))
    return address && HasPrefix(*address, *listed, listed->family == AF_INET ? 32 : 128);
  if (entry.substr(0, 2) == "*.") entry.remove_prefix(1);
  if (entry.substr(0, 1) == ".") entry.remove_prefix(1);
  return !entry.empty() && IsWithin(server.host, entry);
}

bool IsExemptByAny(const Url& server, std::string_view list) {
  constexpr std::string_view kSeparators = ", \t";
  while (!list.empty()) {
    const size_t end = std::min(list.find_first_of(kSeparators), list.size());
    if (end > 0 && IsExempt(server, list.substr(0, end))) return true;
    list.remove_prefix(std::min(end + 1, list.size()));
  }
  return false;
}

std::string PercentDecode(std::string_view text) {
  std::string decoded;
  for (size_t i = 0; i < text.size(); ++i) {
    unsigned value = 0;
    const char* hex = text.data() + i + 1;
    if (text[i] == '%' && i + 2 < text.size() &&
        std::from_chars(hex, hex + 2, value, 16).ptr == hex + 2) {
      decoded += static_cast<char>(value);
      i += 2;
    } else {
      decoded += text[i];
    }
  }
  return decoded;
}

}  // namespace

Result<std::optional<Proxy>> ProxyFor(const Url& server, const ProxyOptions& options) {
  const char* const variable = server.tls ? "HTTPS_PROXY" : "HTTP_PROXY";
  std::string_view text = server.tls ? options.for_https : options.for_http;
  if (text.empty() || IsExemptByAny(server, options.not_for)) return std::nullopt;
  const size_t scheme_end = text.find("://");
  if (scheme_end != std::string_view::npos) {
    if (!EqualsIgnoringCase(text.substr(0, scheme_end), "http")) {
      return Error(Code::kConfigError,
                   fmt::format("{} (or ALL_PROXY): the scheme '{}' is not supported; expected "
                               "http://[USER:PASSWORD@]HOST[:PORT]",
                               variable, text.substr(0, scheme_end)),
                   variable);
    }
    text.remove_prefix(scheme_end + 3);
  }
  Proxy proxy;
  if (const size_t at = text.rfind('@'); at != std::string_view::npos) {
    proxy.credentials = PercentDecode(text.substr(0, at));
    text.remove_prefix(at + 1);
  }
  auto url = ParseUrl("http://" + std::string(text));
  if (!url) {
    return Error(Code::kConfigError,
                 fmt::format("{} (or ALL_PROXY): {}", variable, url.error().message()), variable);
  }
  proxy.server = *std::move(url);
  proxy.server.root.clear();
  return proxy;
}

}  // namespace kvs
