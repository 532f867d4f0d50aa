#include "cpu/vec_avx512.h"
// Vec comes before what is written over it.
#include "cpu/kernel_table.h"
#include "cpu/sample.inl"

namespace kvs::cpu {

const SampleKernels kSampleAvx512 = kSampleKernels;

}  // namespace kvs::cpu
