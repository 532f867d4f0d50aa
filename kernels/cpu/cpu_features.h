// Which instruction sets this processor and operating system offer. Read once; thread-safe.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace kvs::cpu {

// Ordered: each level contains the ones before it. kAvx512 means F, BW, VL, DQ, BF16 and VBMI.
enum class InstructionSet : uint8_t { kPortable, kAvx2, kAvx512 };

InstructionSet BestInstructionSet();
std::string_view ToString(InstructionSet set);
// As the processor calls itself; "CPU" where the system does not say.
std::string CpuModelName();

}  // namespace kvs::cpu
