#include "cpu/vec_avx512.h"
// Vec comes before what is written over it.
#include "cpu/bf16_avx512.inl"
#include "cpu/kernel_table.h"
#include "cpu/linear.inl"

namespace kvs::cpu {
namespace {

constexpr uint32_t kBlockKBf16 = 1024;

void PackXBf16(const float* in, uint32_t k, uint8_t* out) {
  auto* to = reinterpret_cast<uint16_t*>(out);
  for (uint32_t i = 0; i < k; i += 32) {
    const uint32_t left = k - i < 32 ? k - i : 32;
    const Vec::Float low = Vec::LoadN(in + i, left < 16 ? left : 16);
    const Vec::Float high = left > 16 ? Vec::LoadN(in + i + 16, left - 16) : Vec::Zero();
    const uint32_t padded = (left + 1) / 2 * 2;
    const auto mask = static_cast<__mmask32>((uint64_t{1} << padded) - 1);
    _mm512_mask_storeu_epi16(to + i, mask, ToBf16(low, high));
  }
}

}  // namespace

const LinearKernels kLinearAvx512 = {
    .bf16 = {kBlockKBf16, &PackXBf16, &RunBlock<OpBf16Dot<kXRowBytes / 4, kPanelCols, false>>},
    .f16 = kLinearKernelF16,
    .f32 = kLinearKernelF32,
};

}  // namespace kvs::cpu
