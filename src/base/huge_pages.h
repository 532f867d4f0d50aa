// HugePages<T>: the allocator of large tables that are read at random. From 2 MiB on the memory is
// aligned to and advised for huge pages, without which most reads miss the TLB too; below it begins
// at a cache line.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <vector>

namespace kvs {

template <class T>
struct HugePages {
  using value_type = T;

  HugePages() = default;
  template <class U>
  explicit HugePages(const HugePages<U>&) {}

  T* allocate(size_t count) {
    constexpr size_t kCacheLine = 64;
    constexpr size_t kHugePage = size_t{2} << 20;
    if (count > (SIZE_MAX - kHugePage) / sizeof(T)) throw std::bad_array_new_length();
    const size_t bytes = count * sizeof(T);
    const size_t unit = bytes >= kHugePage ? kHugePage : kCacheLine;
    const size_t rounded = (bytes + unit - 1) / unit * unit;
    void* data = std::aligned_alloc(unit, rounded);
    if (data == nullptr) throw std::bad_alloc();
    if (unit == kHugePage) madvise(data, rounded, MADV_HUGEPAGE);  // advice only
    return static_cast<T*>(data);
  }
  void deallocate(T* data, size_t) { std::free(data); }

  friend bool operator==(const HugePages&, const HugePages&) { return true; }
};

template <class T>
using HugePageVector = std::vector<T, HugePages<T>>;

}  // namespace kvs
