#include "cpu/vec_avx2.h"
// Vec comes before what is written over it.
#include "cpu/kernel_table.h"
#include "cpu/rowwise.inl"

namespace kvs::cpu {

const RowwiseKernels kRowwiseAvx2 = kRowwiseKernels;

}  // namespace kvs::cpu
