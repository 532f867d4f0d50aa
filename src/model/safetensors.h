// One safetensors file, memory-mapped. Everything its header says is checked when it is opened:
// the file may come from anywhere. Format: 8 bytes little-endian header length, a JSON header
// {name: {"dtype", "shape", "data_offsets": [begin, end)}}, then the tensors' bytes without holes
// (github.com/huggingface/safetensors, "Format").
//
// Limit: a file that another process truncates while it is read through the mapping ends this
// process with SIGBUS; CheckUnchanged reports one that changed size in between.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "kvserve/dtype.h"
#include "kvserve/status.h"
#include "model/json_file.h"
#include "model/read_only_file.h"

namespace kvs {

// Where a tensor lies in its file.
struct StoredTensor {
  std::string dtype_name;      // as in the header: "BF16", "F8_E4M3", ...
  std::optional<DType> dtype;  // absent for a type that weights are not read from
  std::vector<uint64_t> shape;
  uint64_t begin;  // [begin, end) bytes from the start of the data
  uint64_t end;
};

class SafetensorsFile {
 public:
  using Tensors = std::unordered_map<std::string, StoredTensor>;

  // kNotFound, or kDataError that names the file and the tensor at fault.
  static Result<SafetensorsFile> Open(const std::filesystem::path& path);

  SafetensorsFile(SafetensorsFile&& other) noexcept;
  SafetensorsFile& operator=(SafetensorsFile&&) = delete;
  ~SafetensorsFile();

  const std::string& path() const { return file_.path(); }
  const Tensors& tensors() const { return tensors_; }

  // First byte of the tensor; not aligned.
  const std::byte* Data(const StoredTensor& tensor) const;
  // Where the tensor's bytes lie in the file of this descriptor.
  int fd() const { return file_.fd(); }
  uint64_t FileOffset(const StoredTensor& tensor) const { return data_begin_ + tensor.begin; }
  // Gives the tensor's pages back to the system; reading them again loads them again.
  void DropPages(const StoredTensor& tensor) const;
  Result<void> CheckUnchanged() const { return file_.CheckSizeUnchanged(); }

 private:
  explicit SafetensorsFile(ReadOnlyFile file) : file_(std::move(file)) {}
  Result<void> Map();
  Result<void> ReadHeader();
  Result<StoredTensor> ReadTensor(const std::string& name, const Json& entry) const;
  Result<void> CheckContiguous() const;
  // "FILE: tensor 'NAME': WHAT".
  tl::unexpected<Status> TensorError(const std::string& name, const std::string& what) const;

  ReadOnlyFile file_;
  const std::byte* map_ = nullptr;
  uint64_t data_begin_ = 0;  // bytes from the start of the file
  uint64_t data_bytes_ = 0;
  Tensors tensors_;
};

}  // namespace kvs
