#include "net/url.h"

#include <fmt/format.h>
#include <strings.h>

#include <algorithm>
#include <charconv>

namespace kvs {
namespace {

tl::unexpected<Status> BadUrl(std::string_view text, std::string_view what) {
  return Error(
      Code::kInvalidArgument,
      fmt::format("URL '{}': {}; expected http://HOST:PORT or https://HOST:PORT", text, what));
}

// Splits "host:port", "[v6]:port" or either without a port; false when it is none of them.
bool SplitAuthority(std::string_view authority, std::string_view* host, std::string_view* port) {
  *port = {};
  if (authority.substr(0, 1) == "[") {
    const size_t close = authority.find(']');
    if (close == std::string_view::npos) return false;
    *host = authority.substr(1, close - 1);
    const std::string_view rest = authority.substr(close + 1);
    if (rest.empty()) return true;
    *port = rest.substr(1);
    return rest[0] == ':' && !port->empty();
  }
  const size_t colon = authority.find(':');
  *host = authority.substr(0, colon);
  if (colon == std::string_view::npos) return true;
  *port = authority.substr(colon + 1);
  return !port->empty() && port->find(':') == std::string_view::npos;
}

}  // namespace

std::string Url::ToString() const {
  const bool v6 = host.find(':') != std::string::npos;
  return fmt::format("{}://{}{}{}:{}{}", tls ? "https" : "http", v6 ? "[" : "", host, v6 ? "]" : "",
                     port, root);
}

Result<Url> ParseUrl(std::string_view text) {
  const size_t scheme_end = text.find("://");
  if (scheme_end == std::string_view::npos) return BadUrl(text, "there is no scheme");
  const std::string_view scheme = text.substr(0, scheme_end);
  if (scheme != "http" && scheme != "https") {
    return BadUrl(text, fmt::format("the scheme '{}' is not known", scheme));
  }
  for (const char c : text) {
    if (static_cast<unsigned char>(c) <= ' ' || c == 0x7f) return BadUrl(text, "it holds a blank");
  }
  const std::string_view rest = text.substr(scheme_end + 3);
  if (rest.find_first_of("?#") != std::string_view::npos) {
    return BadUrl(text, "a query or fragment has no meaning here");
  }
  const size_t slash = rest.find('/');
  const std::string_view authority = rest.substr(0, slash);
  if (authority.find('@') != std::string_view::npos) {
    return BadUrl(text, "a user or password has no meaning here, give --api-key");
  }

  Url url;
  url.tls = scheme == "https";
  url.port = url.tls ? 443 : 80;
  std::string_view host, port;
  if (!SplitAuthority(authority, &host, &port)) {
    return BadUrl(text, fmt::format("'{}' is not HOST:PORT", authority));
  }
  if (host.empty()) return BadUrl(text, "there is no host");
  url.host = host;
  if (!port.empty()) {
    const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), url.port);
    if (error != std::errc() || end != port.data() + port.size() || url.port == 0) {
      return BadUrl(text, fmt::format("the port '{}' is not a number from 1 to 65535", port));
    }
  }
  std::string_view root = slash == std::string_view::npos ? "" : rest.substr(slash);
  while (!root.empty() && root.back() == '/') root.remove_suffix(1);
  if (root.size() >= 3 && root.substr(root.size() - 3) == "/v1") root.remove_suffix(3);
  url.root = root;
  return url;
}

Result<Address> ParseAddress(std::string_view text) {
  const size_t scheme_end = text.find("://");
  const size_t authority = scheme_end == std::string_view::npos ? 0 : scheme_end + 3;
  const size_t authority_end = std::min(text.find_first_of("/?#", authority), text.size());
  auto server = ParseUrl(text.substr(0, authority_end));
  if (!server) return tl::unexpected(std::move(server).error());
  const std::string_view rest = text.substr(authority_end);
  Address address{*std::move(server), std::string(rest.substr(0, rest.find('#')))};
  for (const char c : address.target) {
    if (static_cast<unsigned char>(c) <= ' ' || c == 0x7f) return BadUrl(text, "it holds a blank");
  }
  if (address.target.empty() || address.target[0] != '/') address.target.insert(0, 1, '/');
  return address;
}

std::string PercentEncode(std::string_view text, std::string_view keep) {
  std::string encoded;
  for (const char c : text) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       std::string_view("-._~").find(c) != std::string_view::npos ||
                       keep.find(c) != std::string_view::npos;
    if (plain) {
      encoded += c;
    } else {
      encoded += fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
  }
  return encoded;
}

bool EqualsIgnoringCase(std::string_view a, std::string_view b) {
  return a.size() == b.size() && strncasecmp(a.data(), b.data(), a.size()) == 0;
}

}  // namespace kvs
