#include "model/safetensors.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <string_view>
#include <system_error>
#include <utility>

namespace kvs {
namespace {

constexpr uint64_t kLengthBytes = 8;
constexpr uint64_t kHeaderBytesMax = uint64_t{64} << 20;
constexpr size_t kTensorsMax = 200'000;
constexpr size_t kRankMax = 8;
constexpr JsonLimits kHeaderLimits = {.max_bytes = kHeaderBytesMax, .max_depth = 4};

struct ElementType {
  std::string_view name;
  uint32_t bytes;
  std::optional<DType> dtype;
};

constexpr std::array<ElementType, 16> kElementTypes = {{
    {"BF16", 2, DType::kBf16},
    {"F16", 2, DType::kF16},
    {"F32", 4, DType::kF32},
    {"F64", 8, {}},
    {"F8_E4M3", 1, {}},
    {"F8_E5M2", 1, {}},
    {"F8_E8M0", 1, {}},
    {"I8", 1, {}},
    {"I16", 2, {}},
    {"I32", 4, {}},
    {"I64", 8, {}},
    {"U8", 1, {}},
    {"U16", 2, {}},
    {"U32", 4, {}},
    {"U64", 8, {}},
    {"BOOL", 1, {}},
}};

const ElementType* FindElementType(std::string_view name) {
  for (const ElementType& type : kElementTypes) {
    if (type.name == name) return &type;
  }
  return nullptr;
}

// The entries of `value` when it is an array of at most `size_max` unsigned integers.
std::optional<std::vector<uint64_t>> UnsignedArray(const Json& value, size_t size_max) {
  if (!value.is_array() || value.size() > size_max) return std::nullopt;
  std::vector<uint64_t> numbers;
  for (const Json& number : value) {
    if (!number.is_number_unsigned()) return std::nullopt;
    numbers.push_back(number.get<uint64_t>());
  }
  return numbers;
}

// Product of the shape and the element size; nothing on overflow.
std::optional<uint64_t> BytesOf(const std::vector<uint64_t>& shape, uint64_t element_bytes) {
  uint64_t bytes = element_bytes;
  for (uint64_t extent : shape) {
    if (__builtin_mul_overflow(bytes, extent, &bytes)) return std::nullopt;
  }
  return bytes;
}

}  // namespace

Result<SafetensorsFile> SafetensorsFile::Open(const std::filesystem::path& path) {
  auto opened = ReadOnlyFile::Open(path);
  if (!opened) return tl::unexpected(opened.error());
  SafetensorsFile file(std::move(*opened));
  KVS_RETURN_IF_ERROR(file.Map());
  KVS_RETURN_IF_ERROR(file.ReadHeader());
  KVS_RETURN_IF_ERROR(file.CheckContiguous());
  return file;
}

SafetensorsFile::SafetensorsFile(SafetensorsFile&& other) noexcept
    : file_(std::move(other.file_)),
      map_(std::exchange(other.map_, nullptr)),
      data_begin_(other.data_begin_),
      data_bytes_(other.data_bytes_),
      tensors_(std::move(other.tensors_)) {}

SafetensorsFile::~SafetensorsFile() {
  if (map_ != nullptr) munmap(const_cast<std::byte*>(map_), file_.size());
}

Result<void> SafetensorsFile::Map() {
  if (file_.size() < kLengthBytes) {
    return Error(Code::kDataError, fmt::format("{}: {} bytes, too short for a safetensors file",
                                               file_.path(), file_.size()));
  }
  void* map = mmap(nullptr, file_.size(), PROT_READ, MAP_PRIVATE, file_.fd(), 0);
  if (map == MAP_FAILED) {
    return Error(Code::kOsError, fmt::format("{}: cannot be mapped: {}", file_.path(),
                                             std::generic_category().message(errno)));
  }
  map_ = static_cast<const std::byte*>(map);
  return {};
}

Result<void> SafetensorsFile::ReadHeader() {
  uint64_t header_bytes = 0;
  for (uint64_t i = kLengthBytes; i-- > 0;) {
    header_bytes = header_bytes << 8 | std::to_integer<uint64_t>(map_[i]);
  }
  if (header_bytes > kHeaderBytesMax) {
    return Error(Code::kDataError,
                 fmt::format("{}: a header of {} bytes; at most {} are read (is it a safetensors "
                             "file?)",
                             file_.path(), header_bytes, kHeaderBytesMax));
  }
  if (header_bytes > file_.size() - kLengthBytes) {
    return Error(Code::kDataError, fmt::format("{}: truncated: {} bytes, in the middle of its "
                                               "header of {}",
                                               file_.path(), file_.size(), header_bytes));
  }
  data_begin_ = kLengthBytes + header_bytes;
  data_bytes_ = file_.size() - data_begin_;
  const std::string_view text(reinterpret_cast<const char*>(map_ + kLengthBytes), header_bytes);
  auto header = ParseJsonObject(text, kHeaderLimits, file_.path());
  if (!header) return tl::unexpected(header.error());
  if (header->size() > kTensorsMax) {
    return Error(Code::kDataError, fmt::format("{}: {} tensors; at most {} are read", file_.path(),
                                               header->size(), kTensorsMax));
  }
  for (const auto& [name, entry] : header->items()) {
    if (name == "__metadata__") continue;
    auto tensor = ReadTensor(name, entry);
    if (!tensor) return tl::unexpected(tensor.error());
    tensors_.emplace(name, std::move(*tensor));
  }
  return {};
}

Result<StoredTensor> SafetensorsFile::ReadTensor(const std::string& name, const Json& entry) const {
  if (!entry.is_object() || !entry.contains("dtype") || !entry.contains("shape") ||
      !entry.contains("data_offsets")) {
    return TensorError(name, "not an object with dtype, shape and data_offsets");
  }
  const Json& dtype = entry["dtype"];
  const ElementType* type = dtype.is_string() ? FindElementType(dtype.get<std::string>()) : nullptr;
  if (type == nullptr) return TensorError(name, "unknown dtype " + dtype.dump(-1, ' ', true));
  auto shape = UnsignedArray(entry["shape"], kRankMax);
  if (!shape) {
    return TensorError(name, fmt::format("shape is not a list of at most {} sizes", kRankMax));
  }
  const auto offsets = UnsignedArray(entry["data_offsets"], 2);
  if (!offsets || offsets->size() != 2) {
    return TensorError(name, "data_offsets is not a pair of offsets");
  }
  const uint64_t begin = (*offsets)[0];
  const uint64_t end = (*offsets)[1];
  if (begin > end) return TensorError(name, fmt::format("ends at {}, before {}", end, begin));
  if (end > data_bytes_) {
    return TensorError(name, fmt::format("ends at byte {} of the data, but the file holds {}: "
                                         "truncated?",
                                         end, data_bytes_));
  }
  const auto bytes = BytesOf(*shape, type->bytes);
  if (!bytes) return TensorError(name, "the product of its shape overflows");
  if (*bytes != end - begin) {
    return TensorError(name, fmt::format("{} of shape [{}] takes {} bytes, but {} are stored",
                                         type->name, fmt::join(*shape, ", "), *bytes, end - begin));
  }
  return StoredTensor{std::string(type->name), type->dtype, std::move(*shape), begin, end};
}

Result<void> SafetensorsFile::CheckContiguous() const {
  std::vector<const Tensors::value_type*> in_order;
  in_order.reserve(tensors_.size());
  for (const auto& tensor : tensors_) in_order.push_back(&tensor);
  std::sort(in_order.begin(), in_order.end(), [](const auto* a, const auto* b) {
    return std::pair(a->second.begin, a->second.end) < std::pair(b->second.begin, b->second.end);
  });
  uint64_t expected = 0;
  for (const auto* tensor : in_order) {
    const auto& [name, stored] = *tensor;
    if (stored.begin != expected) {
      return TensorError(
          name, fmt::format("begins at byte {} of the data, {} the previous end {}", stored.begin,
                            stored.begin < expected ? "overlapping" : "a hole after", expected));
    }
    expected = stored.end;
  }
  if (expected != data_bytes_) {
    return Error(Code::kDataError, fmt::format("{}: {} bytes of data, but its tensors end at {}",
                                               file_.path(), data_bytes_, expected));
  }
  return {};
}

const std::byte* SafetensorsFile::Data(const StoredTensor& tensor) const {
  return map_ + data_begin_ + tensor.begin;
}

void SafetensorsFile::DropPages(const StoredTensor& tensor) const {
  const uint64_t page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  const uint64_t begin = (data_begin_ + tensor.begin) / page * page;
  const uint64_t end = data_begin_ + tensor.end;
  if (begin < end) madvise(const_cast<std::byte*>(map_ + begin), end - begin, MADV_DONTNEED);
}

tl::unexpected<Status> SafetensorsFile::TensorError(const std::string& name,
                                                    const std::string& what) const {
  return Error(Code::kDataError,
               fmt::format("{}: tensor '{}': {}", file_.path(), name.substr(0, 200), what));
}

}  // namespace kvs
