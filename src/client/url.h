// The address of a server as a user gives it.
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

}  // namespace kvs
