// HostBackend: memory and copies of a Backend, and no ops. A test gives it the traits of a device
// that pads its batches and keeps the tokens it samples.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>

#include "kvserve/backend.h"

namespace kvs::test {

class HostBackend : public Backend {
 public:
  uint32_t pad_to = 1;  // batches of single tokens are made a multiple of it
  uint32_t few_tokens = 1;
  bool fuses_rope = false;
  bool keeps_sampled = false;    // sampled_tokens() is not null
  uint32_t max_num_seqs = 1024;  // what padding must stay within

  std::string Describe() const override { return "host memory"; }
  DeviceInfo Info() const override { return {}; }
  DType activation_dtype() const override { return DType::kF32; }
  Result<DeviceBuffer> Allocate(size_t bytes, const char*) override {
    return DeviceBuffer(std::calloc(1, bytes), bytes, [](void* data, size_t) { std::free(data); });
  }
  void CopyToDevice(void* device, const void* host, size_t bytes) override {
    std::memcpy(device, host, bytes);
  }
  void CopyToHost(void* host, const void* device, size_t bytes) override {
    std::memcpy(host, device, bytes);
  }
  uint32_t PaddedBatch(uint32_t num_seqs) const override {
    return std::min((num_seqs + pad_to - 1) / pad_to * pad_to, max_num_seqs);
  }
  uint32_t FewTokens() const override { return few_tokens; }
  bool FusesRope() const override { return fuses_rope; }
  const TokenId* sampled_tokens() const override { return keeps_sampled ? &sampled_ : nullptr; }

  Result<std::unique_ptr<LinearWeight>> PackLinear(std::span<const HostMatrix>, DType) override {
    return Error(Code::kUnavailable, "no weights here");
  }
  Result<void> Reserve(const BackendLimits&) override { return {}; }
  void Embed(const EmbedParams&) override { KVS_CHECK(false); }
  void AddRmsNorm(const AddRmsNormParams&) override { KVS_CHECK(false); }
  void Linear(const LinearParams&) override { KVS_CHECK(false); }
  void RopeKvStore(const RopeKvStoreParams&) override { KVS_CHECK(false); }
  void PagedAttention(const PagedAttentionParams&) override { KVS_CHECK(false); }
  void SiluMul(const SiluMulParams&) override { KVS_CHECK(false); }
  void GatherRows(const GatherRowsParams&) override { KVS_CHECK(false); }
  void StartSample(const SampleParams&) override { KVS_CHECK(false); }
  void FinishSample(const SampleParams&) override { KVS_CHECK(false); }
  void Synchronize() override {}

 private:
  TokenId sampled_{0};
};

}  // namespace kvs::test
