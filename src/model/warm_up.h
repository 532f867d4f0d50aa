// Steps that nobody waits for, before the first that somebody does.
#pragma once

#include "kvserve/step.h"
#include "model/model.h"

namespace kvs {

// Runs one step of each kind, in blocks of the cache that nobody holds yet: a prompt, a prompt's
// rest behind a long context, single tokens, every way to sample. A device loads its kernels at
// their first use, and so they are there when the first request comes. What is counted counts these
// steps too. The same thread as Load.
void WarmUp(const StepLimits& limits, Model& model);

}  // namespace kvs
