#include "cpu/vec_portable.h"
// Vec comes before what is written over it.
#include "cpu/kernel_table.h"
#include "cpu/sample.inl"

namespace kvs::cpu {

const SampleKernels kSamplePortable = kSampleKernels;

}  // namespace kvs::cpu
