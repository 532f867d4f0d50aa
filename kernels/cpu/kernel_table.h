// The kernels of each instruction set. Tables of one set are defined in files compiled for it; on
// another processor architecture only the portable ones exist.
#pragma once

#include "cpu/attention.h"
#include "cpu/cpu_features.h"
#include "cpu/linear.h"
#include "cpu/rowwise.h"
#include "cpu/sample.h"

namespace kvs::cpu {

extern const LinearKernels kLinearPortable, kLinearAvx2, kLinearAvx512, kLinearAmx;
extern const RowwiseKernels kRowwisePortable, kRowwiseAvx2, kRowwiseAvx512;
extern const AttentionKernels kAttentionPortable, kAttentionAvx2, kAttentionAvx512, kAttentionAmx;
extern const SampleKernels kSamplePortable, kSampleAvx2, kSampleAvx512;

struct KernelTable {
  const LinearKernels& linear;
  const RowwiseKernels& rowwise;
  const AttentionKernels& attention;
  const SampleKernels& sample;
};

// REQUIRES: set <= BestInstructionSet().
const KernelTable& KernelsFor(InstructionSet set);

}  // namespace kvs::cpu
