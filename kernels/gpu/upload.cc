#include "gpu/upload.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <string>
#include <thread>

namespace kvs::gpu {
namespace {

constexpr size_t kPieceBytes = size_t{4} << 20;
constexpr uint32_t kMaxLanes = 8;  // a core copies about 10 GB/s; the link takes 55

float DecodeAt(const void* values, DType dtype, size_t i) {
  switch (dtype) {
    case DType::kF32:
      return static_cast<const float*>(values)[i];
    case DType::kBf16:
      return Bf16ToFloat(static_cast<const uint16_t*>(values)[i]);
    case DType::kF16:
      return F16ToFloat(static_cast<const uint16_t*>(values)[i]);
    case DType::kF8E4M3:
      break;  // goes as it is, with its scales
  }
  return 0.0f;
}

void CopyValues(std::byte* to_bytes, DType to_dtype, const void* from, DType from_dtype,
                size_t first, size_t count) {
  if (from_dtype == to_dtype) {
    const size_t size = SizeOf(to_dtype);
    std::memcpy(to_bytes, static_cast<const std::byte*>(from) + first * size, count * size);
    return;
  }
  auto* to = reinterpret_cast<uint16_t*>(to_bytes);
  for (size_t i = 0; i < count; ++i) {
    const float value = DecodeAt(from, from_dtype, first + i);
    to[i] = to_dtype == DType::kBf16 ? FloatToBf16(value) : FloatToF16(value);
  }
}

}  // namespace

Result<void> Uploader::Reserve() {
  if (!lanes_.empty()) return {};
  const uint32_t count = std::clamp(std::thread::hardware_concurrency(), 1u, kMaxLanes);
  for (uint32_t i = 0; i < count; ++i) {
    Lane& lane = lanes_.emplace_back();
    KVS_GPU(StreamCreateWithFlags(&lane.stream, KVS_GPU_NAME(StreamNonBlocking)));
    for (int half = 0; half < 2; ++half) {
      KVS_GPU(EventCreateWithFlags(&lane.fetched[half], KVS_GPU_NAME(EventDisableTiming)));
    }
    for (std::byte*& pinned : lane.pinned) {
      const Error error =
          KVS_GPU_NAME(HostAlloc)(reinterpret_cast<void**>(&pinned), kPieceBytes, 0);
      if (error == kSuccess) continue;
      Release();
      return kvs::Error(Code::kOsError,
                        "the system did not give " + std::to_string(kPieceBytes) +
                            " bytes of pinned memory: " + KVS_GPU_NAME(GetErrorString)(error));
    }
  }
  return {};
}

Result<void> Uploader::Upload(void* device, DType to, const void* host, DType from, size_t count) {
  KVS_RETURN_IF_ERROR(Reserve());
  const size_t size = SizeOf(to);
  const size_t piece_count = kPieceBytes / size;
  const size_t num_pieces = (count + piece_count - 1) / piece_count;
  std::atomic<size_t> next{0};
  const auto work = [&](Lane& lane) {
    KVS_GPU(SetDevice(device_index_));
    int half = 0;
    for (size_t piece = next++; piece < num_pieces; piece = next++, half ^= 1) {
      const size_t first = piece * piece_count;
      const size_t n = std::min(piece_count, count - first);
      KVS_GPU(EventSynchronize(lane.fetched[half]));
      CopyValues(lane.pinned[half], to, host, from, first, n);
      KVS_GPU(MemcpyAsync(static_cast<std::byte*>(device) + first * size, lane.pinned[half],
                          n * size, KVS_GPU_NAME(MemcpyHostToDevice), lane.stream));
      KVS_GPU(EventRecord(lane.fetched[half], lane.stream));
    }
    KVS_GPU(StreamSynchronize(lane.stream));
  };
  std::vector<std::thread> threads;
  for (size_t i = 1; i < std::min(lanes_.size(), num_pieces); ++i) {
    threads.emplace_back(work, std::ref(lanes_[i]));
  }
  work(lanes_[0]);
  for (std::thread& thread : threads) thread.join();
  return {};
}

void Uploader::Release() {
  for (Lane& lane : lanes_) {
    KVS_GPU(StreamDestroy(lane.stream));
    for (int half = 0; half < 2; ++half) {
      KVS_GPU(EventDestroy(lane.fetched[half]));
      if (lane.pinned[half] != nullptr) KVS_GPU(FreeHost(lane.pinned[half]));
    }
  }
  lanes_.clear();
}

}  // namespace kvs::gpu
