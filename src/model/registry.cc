#include "model/registry.h"

// Every family has one line here.
#define KVS_FAMILIES(family) \
  family(kLlama) family(kMistral) family(kMixtral) family(kQwen2) family(kQwen3) family(kQwen3Moe)

namespace kvs {

#define KVS_DECLARE(family) extern const Architecture family;
KVS_FAMILIES(KVS_DECLARE)

namespace {

#define KVS_LIST(family) &(family),
constexpr const Architecture* kArchitectures[] = {KVS_FAMILIES(KVS_LIST)};

}  // namespace

const Architecture* FindArchitecture(std::string_view name) {
  for (const Architecture* architecture : kArchitectures) {
    if (architecture->name == name) return architecture;
  }
  return nullptr;
}

std::string SupportedArchitectures() {
  std::string names;
  for (const Architecture* architecture : kArchitectures) {
    if (!names.empty()) names += ", ";
    names += architecture->name;
  }
  return names;
}

}  // namespace kvs
