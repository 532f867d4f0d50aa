// Hardware approximations, good to about 2 units in the last place of float32.
#pragma once

#include "gpu/gpu.h"
#include KVS_VENDOR_HEADER(fast_math.cuh)
