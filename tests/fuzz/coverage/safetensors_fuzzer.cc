// Opens the input as a safetensors file and touches every byte that it says is a tensor's.
#include "kvserve/check.h"
#include "model/safetensors.h"
#include "scratch_dir.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const kvs::ScratchDir scratch;
  const auto path = scratch.Write("model.safetensors", data, size);
  const auto file = kvs::SafetensorsFile::Open(path);
  if (!file) {
    KVS_CHECK(!file.error().message().empty());
    return 0;
  }
  static volatile unsigned sum = 0;
  for (const auto& [name, tensor] : file->tensors()) {
    KVS_CHECK_OP(tensor.begin, <=, tensor.end);
    KVS_CHECK_OP(tensor.end, <=, size);
    const std::byte* bytes = file->Data(tensor);
    for (uint64_t i = tensor.begin; i < tensor.end; ++i) {
      sum = sum + static_cast<unsigned>(bytes[i - tensor.begin]);
    }
    file->DropPages(tensor);
  }
  return 0;
}
