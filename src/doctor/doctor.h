// `kvserve doctor`: is this machine fit to serve, and which of two flags is to blame where not.
#pragma once

#include "config/config.h"

namespace kvs {

// Prints the report as it goes, or as JSON at the end. Returns the exit code: 0 when no check
// failed, 1 when one did, 128 + the signal when interrupted; of --probe, 0 or ExitCodeOf what
// stopped it. Leaves no process behind. Called on the main thread.
int RunDoctor(const DoctorCommand& command);

}  // namespace kvs
