#include "cpu/vec_avx512.h"
// Vec comes before what is written over it.
#include "cpu/bf16_avx512.inl"
#include "cpu/kernel_table.h"
#include "cpu/linear.inl"

namespace kvs::cpu {

const LinearKernels kLinearAvx512 = {
    .bf16 = {kBlockKBf16, &PackXBf16,
             &RunBlock<OpBf16Dot<kXRowBytes / 4, kPanelCols, NothingAhead>>},
    .f16 = kLinearKernelF16,
    .f32 = kLinearKernelF32,
};

}  // namespace kvs::cpu
