#include "cpu/vec_portable.h"
// Vec comes before what is written over it.
#include "cpu/kernel_table.h"
#include "cpu/linear.inl"

namespace kvs::cpu {

const LinearKernels kLinearPortable = {
    .bf16 = {kBlockKFloat, &PackXFloat, &RunBlock<OpBf16Pairs<kXRowFloats, kPanelCols>>},
    .f16 = kLinearKernelF16,
    .f32 = kLinearKernelF32,
};

}  // namespace kvs::cpu
