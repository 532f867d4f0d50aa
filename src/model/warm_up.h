// Steps that nobody waits for, before the first that somebody does.
#pragma once

#include "kvserve/step.h"
#include "model/model.h"

namespace kvs {

// Runs steps of each kind, in blocks of the cache that nobody holds yet: a prompt, a prompt's rest
// behind a long context, few tokens, every way to sample. A device loads its kernels at their first
// use and records a step of few tokens at its second, and so both are there when the first request
// comes, and when the first prefix is found again. What is counted counts these steps too. The same
// thread as Load.
void WarmUp(const StepLimits& limits, Model& model);

}  // namespace kvs
