#include "cpu/vec_avx2.h"
// Vec comes before what is written over it.
#include "cpu/kernel_table.h"
#include "cpu/sample.inl"

namespace kvs::cpu {

const SampleKernels kSampleAvx2 = kSampleKernels;

}  // namespace kvs::cpu
