// Element types of weights and of the KV cache. The two are separate types: what a checkpoint is
// stored in says nothing about what the cache stores.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace kvs {

// kF8E4M3, OCP E4M3FN, is of stored weights alone; it goes with scales (HostMatrix).
enum class DType : uint8_t { kBf16, kF16, kF32, kF8E4M3 };

// kF8E4M3 is OCP E4M3FN: largest finite 448, no infinity. kF8E5M2 is OCP E5M2: largest finite
// 57344, has infinities, which are never stored. kF32 is what `auto` means with --dtype float32.
enum class KvCacheDType : uint8_t { kBf16, kF16, kF32, kF8E4M3, kF8E5M2 };

constexpr size_t SizeOf(DType dtype) {
  return dtype == DType::kF32 ? 4 : dtype == DType::kF8E4M3 ? 1 : 2;
}

constexpr size_t SizeOf(KvCacheDType dtype) {
  switch (dtype) {
    case KvCacheDType::kF32:
      return 4;
    case KvCacheDType::kBf16:
    case KvCacheDType::kF16:
      return 2;
    case KvCacheDType::kF8E4M3:
    case KvCacheDType::kF8E5M2:
      return 1;
  }
  return 0;
}

constexpr bool IsFp8(KvCacheDType dtype) { return SizeOf(dtype) == 1; }

constexpr std::string_view ToString(DType dtype) {
  constexpr std::array<std::string_view, 4> kNames = {"bfloat16", "float16", "float32", "fp8_e4m3"};
  return kNames[static_cast<size_t>(dtype)];
}

constexpr std::string_view ToString(KvCacheDType dtype) {
  constexpr std::array<std::string_view, 5> kNames = {"bfloat16", "float16", "float32", "fp8_e4m3",
                                                      "fp8_e5m2"};
  return kNames[static_cast<size_t>(dtype)];
}

constexpr KvCacheDType KvCacheDTypeOf(DType dtype) {
  switch (dtype) {
    case DType::kBf16:
      return KvCacheDType::kBf16;
    case DType::kF16:
      return KvCacheDType::kF16;
    case DType::kF32:
    case DType::kF8E4M3:
      break;
  }
  return KvCacheDType::kF32;
}

}  // namespace kvs
