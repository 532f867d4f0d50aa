// HTTP proxies: through which one a server is reached.
#pragma once

#include <optional>
#include <string>

#include "kvserve/options.h"
#include "kvserve/status.h"
#include "net/url.h"

namespace kvs {

struct Proxy {
  Url server;
  std::string credentials;  // "USER:PASSWORD", not encoded; empty: none
};

// What `options` say of `server`; nothing where it is to be reached directly. A name in `not_for`
// stands for itself and all below it, with ":PORT" for that port alone; an address may have a
// length
// ("10.0.0.0/8"). kConfigError, without the password, when the proxy is no http:// address.
Result<std::optional<Proxy>> ProxyFor(const Url& server, const ProxyOptions& options);

}  // namespace kvs
