#include "cpu/vec_portable.h"
// Vec comes before what is written over it.
#include "cpu/attention_f32.inl"
#include "cpu/kernel_table.h"

namespace kvs::cpu {

const AttentionKernels kAttentionPortable = kAttentionKernelsF32;

}  // namespace kvs::cpu
