// Reading weights once, past the caches.
#pragma once

#include "gpu/async_copy.cuh"
#include KVS_VENDOR_HEADER(stream_load.cuh)
