// The commands that talk to a running server, kvserve or any other with an OpenAI-compatible API.
#pragma once

#include "config/config.h"

namespace kvs {

// Sends one long prompt twice and judges whether its prefix was reused. Prints a report; returns
// the exit code: 0 PASS, 1 FAIL, else ExitCodeOf what stopped it.
int RunCheckCache(const CheckCacheCommand& command);

// Load generator; prints percentiles and throughput. Returns the exit code: 0 when every request
// completed, 1 when some failed, else ExitCodeOf what stopped it.
int RunBench(const BenchCommand& command);

}  // namespace kvs
