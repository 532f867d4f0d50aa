#include "cpu/vec_avx512.h"
// Vec comes before what is written over it.
#include "cpu/kernel_table.h"
#include "cpu/rowwise.inl"

namespace kvs::cpu {

const RowwiseKernels kRowwiseAvx512 = kRowwiseKernels;

}  // namespace kvs::cpu
