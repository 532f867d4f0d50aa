// The head of the next request on a connection.
#pragma once

#include <string>
#include <tl/expected.hpp>

#include "http/connection.h"
#include "http/request_head.h"

namespace kvs {

// Takes the head from the front of `received`, reading more of it as needed; what follows it stays.
// A status of 0 in the error: the connection has nothing to answer any more.
tl::expected<RequestHead, HeadError> ReadHead(Connection& connection, std::string& received,
                                              SteadyTime deadline);

}  // namespace kvs
