// Copies from global to shared memory that run while the thread goes on: several stages of a loop
// in flight. A thread waits for its own copies; a barrier then shows them to the others.
#pragma once

#include "gpu/gpu.h"
#include KVS_VENDOR_HEADER(async_copy.cuh)
