#include "cpu/memory.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstdint>
#include <string>
#include <system_error>

namespace kvs::cpu {
namespace {

constexpr size_t kPage = 4096;
constexpr size_t kHugePage = size_t{2} << 20;

constexpr size_t RoundUp(size_t value, size_t unit) { return (value + unit - 1) / unit * unit; }

// Not whole huge pages: the tail of each buffer in one would be memory that nobody uses.
constexpr size_t MappedBytes(size_t bytes) { return RoundUp(bytes, kPage); }

void Unmap(void* data, size_t bytes) { munmap(data, MappedBytes(bytes)); }

// One write a small page: the system may not have given huge ones.
void Touch(uint8_t* data, size_t bytes) {
  for (size_t at = 0; at < bytes; at += kPage) static_cast<volatile uint8_t*>(data)[at] = 0;
}

}  // namespace

Result<DeviceBuffer> AllocatePages(size_t bytes, const char* what, Pages pages) {
  if (bytes == 0) return DeviceBuffer();
  const size_t mapped = MappedBytes(bytes);
  const bool huge = bytes >= kHugePage;
  const size_t slack = huge ? kHugePage : 0;
  void* raw =
      mmap(nullptr, mapped + slack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (raw == MAP_FAILED) {
    return Error(Code::kOsError, "cannot get " + std::to_string(bytes >> 20) + " MiB for " + what +
                                     ": " + std::generic_category().message(errno));
  }
  auto* data = static_cast<uint8_t*>(raw);
  if (huge) {
    const size_t head =
        RoundUp(reinterpret_cast<uintptr_t>(raw), kHugePage) - reinterpret_cast<uintptr_t>(raw);
    if (head > 0) munmap(data, head);
    data += head;
    if (slack > head) munmap(data + mapped, slack - head);
    madvise(data, mapped, MADV_HUGEPAGE);  // only advice: small pages are slower, not wrong
  }
  if (pages == Pages::kNow) Touch(data, bytes);
  return DeviceBuffer(data, bytes, &Unmap);
}

}  // namespace kvs::cpu
