#include "cpu/vec_avx2.h"
// Vec comes before what is written over it.
#include "cpu/kernel_table.h"
#include "cpu/linear.inl"

namespace kvs::cpu {

const LinearKernels kLinearAvx2 = {
    .bf16 = {kBlockKFloat, &PackXFloat, &RunBlock<OpBf16Pairs<kXRowFloats, kPanelCols>>},
    .f16 = kLinearKernelF16,
    .f32 = kLinearKernelF32,
};

}  // namespace kvs::cpu
