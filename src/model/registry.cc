#include "model/registry.h"

#include <array>

#include "model/llama.h"

namespace kvs {
namespace {

constexpr std::array kArchitectures = {
    Architecture{"LlamaForCausalLM", MakeLlama},
};

}  // namespace

const Architecture* FindArchitecture(std::string_view name) {
  for (const Architecture& architecture : kArchitectures) {
    if (architecture.name == name) return &architecture;
  }
  return nullptr;
}

std::string SupportedArchitectures() {
  std::string names;
  for (const Architecture& architecture : kArchitectures) {
    if (!names.empty()) names += ", ";
    names += architecture.name;
  }
  return names;
}

}  // namespace kvs
