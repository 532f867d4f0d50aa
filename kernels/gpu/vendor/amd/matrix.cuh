// See gpu/matrix.cuh.
#pragma once

#include "gpu/gpu.h"
#include "gpu/matrix_layout.cuh"

#if defined(__gfx1100__) || defined(__gfx1101__) || defined(__gfx1102__) || \
    defined(__gfx1103__) || defined(__gfx1150__) || defined(__gfx1151__)
#include "gpu/vendor/amd/matrix_gfx11.cuh"
#elif defined(__gfx1200__) || defined(__gfx1201__)
#include "gpu/vendor/amd/matrix_gfx12.cuh"
#elif defined(__gfx90a__) || defined(__gfx940__) || defined(__gfx941__) || defined(__gfx942__)
#include "gpu/vendor/amd/matrix_cdna.cuh"
#elif defined(__GFX9__)
#error "these kernels serve AMD's wave64 devices from gfx90a on"
#else
#include "gpu/matrix_software.cuh"
#endif
