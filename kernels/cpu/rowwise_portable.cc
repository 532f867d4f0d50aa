#include "cpu/vec_portable.h"
// Vec comes before what is written over it.
#include "cpu/kernel_table.h"
#include "cpu/rowwise.inl"

namespace kvs::cpu {

const RowwiseKernels kRowwisePortable = kRowwiseKernels;

}  // namespace kvs::cpu
