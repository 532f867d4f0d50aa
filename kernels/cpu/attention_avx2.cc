#include "cpu/vec_avx2.h"
// Vec comes before what is written over it.
#include "cpu/attention_f32.inl"
#include "cpu/kernel_table.h"

namespace kvs::cpu {

const AttentionKernels kAttentionAvx2 = kAttentionKernelsF32;

}  // namespace kvs::cpu
