// Addresses: of a server as a user gives it, and of what is asked of one.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "kvserve/status.h"

namespace kvs {

struct Url {
  bool tls = false;
  std::string host;  // IPv6 without brackets
  uint16_t port = 0;
  std::string
      root;  // path before "/v1/..." and "/metrics", without a slash at the end; often empty

  // "http://[::1]:8000/root"
  std::string ToString() const;
};

// Takes "http://HOST[:PORT][/ROOT][/v1]", the way servers print it and clients configure it.
// kInvalidArgument for anything else, naming what is wrong with it.
Result<Url> ParseUrl(std::string_view text);

// A whole address, as a redirect gives it: where to connect, and what to ask for there.
struct Address {
  Url server;          // without a root
  std::string target;  // path and query, as they are in the address; begins with a slash
};

// kInvalidArgument as ParseUrl. A fragment is dropped.
Result<Address> ParseAddress(std::string_view text);

// `text` with everything but letters, digits, '-', '.', '_', '~' and what `keep` names as %XX.
std::string PercentEncode(std::string_view text, std::string_view keep = {});

// Of ASCII letters: names of hosts, schemes and headers.
bool EqualsIgnoringCase(std::string_view a, std::string_view b);

}  // namespace kvs
