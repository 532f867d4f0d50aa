#include "cpu/kernel_table.h"

namespace kvs::cpu {

const KernelTable& KernelsFor([[maybe_unused]] InstructionSet set) {
#if defined(__x86_64__)
  static constexpr KernelTable kAvx512 = {kLinearAvx512, kRowwiseAvx512, kAttentionAvx512,
                                          kSampleAvx512};
  static constexpr KernelTable kAvx2 = {kLinearAvx2, kRowwiseAvx2, kAttentionAvx2, kSampleAvx2};
  static constexpr KernelTable kAmx = {kLinearAmx, kRowwiseAvx512, kAttentionAmx, kSampleAvx512};
  if (set == InstructionSet::kAmx) return kAmx;
  if (set == InstructionSet::kAvx512) return kAvx512;
  if (set == InstructionSet::kAvx2) return kAvx2;
#endif
  static constexpr KernelTable kPortable = {kLinearPortable, kRowwisePortable, kAttentionPortable,
                                            kSamplePortable};
  return kPortable;
}

}  // namespace kvs::cpu
