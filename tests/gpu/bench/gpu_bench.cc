// Measures the GPU kernels beside the device's own ceilings: gpu_bench [decode prefill ...], all
// without arguments.
#include <cstdio>
#include <map>
#include <string>

#include "gpu/bench/bench.h"

int main(int argc, char** argv) {
  using kvs::gpu::Ceilings;
  const std::map<std::string, void (*)(const Ceilings&)> tables = {
      {"decode", kvs::gpu::DecodeBench},   {"decode_in_order", kvs::gpu::DecodeInOrderBench},
      {"row_ops", kvs::gpu::RowOpsBench},  {"linear", kvs::gpu::LinearBench},
      {"prefill", kvs::gpu::PrefillBench}, {"step", kvs::gpu::StepBench},
  };
  std::vector<std::string> names(argv + 1, argv + argc);
  if (names.empty()) {
    for (const auto& [name, table] : tables) names.push_back(name);
  }
  for (const std::string& name : names) {
    if (tables.contains(name)) continue;
    std::fprintf(stderr, "gpu_bench: no table '%s'\n", name.c_str());
    return 2;
  }
  const Ceilings ceilings = kvs::gpu::MeasureCeilings();
  const auto& facts = *kvs::gpu::TestLaunch(kvs::DType::kBf16).facts;
  std::printf("%s, %s, %d multiprocessors: read %.2f TB/s, copy %.2f TB/s\n", facts.name,
              facts.architecture, facts.num_multiprocessors, ceilings.read_bytes_per_s / 1e12,
              ceilings.copy_bytes_per_s / 1e12);
  for (const std::string& name : names) tables.at(name)(ceilings);
}
