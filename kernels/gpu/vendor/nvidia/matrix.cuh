// See gpu/matrix.cuh. NVIDIA's own fragments (mma.cuh) are divided otherwise; here what is written
// for AMD runs for tests alone.
#pragma once

#include "gpu/matrix_software.cuh"
