// Which instruction sets this processor and operating system offer. Read once; thread-safe.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace kvs::cpu {

// Ordered: each level contains the ones before it. kAvx512 means F, BW, VL, DQ, BF16 and VBMI, kAmx
// AMX's tiles of BF16 besides.
enum class InstructionSet : uint8_t { kPortable, kAvx2, kAvx512, kAmx };
inline constexpr std::array kInstructionSets = {InstructionSet::kPortable, InstructionSet::kAvx2,
                                                InstructionSet::kAvx512, InstructionSet::kAmx};

InstructionSet BestInstructionSet();
std::string_view ToString(InstructionSet set);
// As the processor calls itself; "CPU" where the system does not say.
std::string CpuModelName();

}  // namespace kvs::cpu
