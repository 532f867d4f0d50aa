// What the GPU kernel tests share: device arrays, seeded inputs, comparisons.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "gpu/device_facts.h"
#include "gpu/launch.h"
#include "kvserve/dtype.h"
#include "kvserve/float_bits.h"

namespace kvs::gpu {

// An array in device memory, filled with bytes that are NaN in every float format when it is made
// without values, so that an element that a kernel forgets to write is seen.
template <class T>
class DeviceArray {
 public:
  explicit DeviceArray(size_t count) : count_(count) {
    KVS_GPU(Malloc(reinterpret_cast<void**>(&data_), std::max<size_t>(1, count) * sizeof(T)));
    KVS_GPU(Memset(data_, 0xff, count * sizeof(T)));
  }
  explicit DeviceArray(const std::vector<T>& values) : DeviceArray(values.size()) {
    KVS_GPU(Memcpy(data_, values.data(), count_ * sizeof(T), KVS_GPU_NAME(MemcpyHostToDevice)));
  }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;
  ~DeviceArray() { KVS_GPU(Free(data_)); }

  T* data() const { return data_; }
  size_t size() const { return count_; }
  std::vector<T> ToHost() const {
    std::vector<T> values(count_);
    KVS_GPU(Memcpy(values.data(), data_, count_ * sizeof(T), KVS_GPU_NAME(MemcpyDeviceToHost)));
    return values;
  }

 private:
  T* data_ = nullptr;
  size_t count_;
};

// Launches on the default stream of device 0.
inline Launch TestLaunch(DType act) {
  static const DeviceFacts facts = ReadDeviceFacts(0).value();
  Launch launch;
  launch.act = act;
  launch.facts = &facts;
  return launch;
}

inline uint16_t Encode16(float value, DType dtype) {
  return dtype == DType::kF16 ? FloatToF16(value) : FloatToBf16(value);
}
inline float Decode16(uint16_t stored, DType dtype) {
  return dtype == DType::kF16 ? F16ToFloat(stored) : Bf16ToFloat(stored);
}
inline std::vector<uint16_t> Encode16(const std::vector<float>& values, DType dtype) {
  std::vector<uint16_t> out(values.size());
  for (size_t i = 0; i < out.size(); ++i) out[i] = Encode16(values[i], dtype);
  return out;
}
inline std::vector<float> Decode16(const std::vector<uint16_t>& stored, DType dtype) {
  std::vector<float> out(stored.size());
  for (size_t i = 0; i < out.size(); ++i) out[i] = Decode16(stored[i], dtype);
  return out;
}

class Random {
 public:
  explicit Random(uint64_t seed) : engine_(seed) {}
  std::vector<float> Normals(size_t n, float deviation = 1.0f) {
    std::normal_distribution<float> distribution(0.0f, deviation);
    std::vector<float> values(n);
    for (float& value : values) value = distribution(engine_);
    return values;
  }
  uint32_t Below(uint32_t n) { return std::uniform_int_distribution<uint32_t>(0, n - 1)(engine_); }
  std::mt19937_64& engine() { return engine_; }

 private:
  std::mt19937_64 engine_;
};

// Of a linear layer.
struct LinearShape {
  uint32_t out_features, in_features;
};

inline std::string Name(const LinearShape& shape, uint32_t num_rows) {
  return std::to_string(shape.out_features) + "x" + std::to_string(shape.in_features) + " rows " +
         std::to_string(num_rows);
}

// Root mean square of got - want over that of want; NaN in `got` gives NaN, which fails every
// comparison.
template <class Want>
double RelativeRms(const std::vector<float>& got, const std::vector<Want>& want) {
  EXPECT_EQ(got.size(), want.size());
  double squares = 0, errors = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    const double error = got[i] - static_cast<double>(want[i]);
    squares += static_cast<double>(want[i]) * want[i];
    errors += error * error;
  }
  return std::sqrt(errors / squares);
}

}  // namespace kvs::gpu
