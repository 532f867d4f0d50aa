// `kvserve serve`: the composition root of the daemon.
#pragma once

#include "kvserve/options.h"

namespace kvs {

// Binds, loads, listens, drains on SIGTERM or SIGINT; a second signal aborts what is in flight.
// Returns the exit code. Called once, on the main thread, before any other thread exists.
int Serve(const ServerOptions& asked);

}  // namespace kvs
