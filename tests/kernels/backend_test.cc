#include <atomic>
#include <cstdlib>
#include <new>

#include "kernels/kernel_test_util.h"

namespace {

std::atomic<uint64_t> g_num_allocations{0};

}  // namespace

// The whole test program counts its allocations.
void* operator new(std::size_t bytes) {
  g_num_allocations.fetch_add(1, std::memory_order_relaxed);
  void* memory = std::malloc(bytes == 0 ? 1 : bytes);
  if (memory == nullptr) std::abort();
  return memory;
}
void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept {
  g_num_allocations.fetch_add(1, std::memory_order_relaxed);
  return std::malloc(bytes == 0 ? 1 : bytes);
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, const std::nothrow_t&) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

namespace kvs {
namespace {

TEST(Backend, RefusesUnknownInstructionSets) {
  auto made = MakeCpuBackend({.instruction_set = "mmx"});
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().code(), Code::kInvalidArgument);
}

TEST(Backend, DescribesItself) {
  EXPECT_EQ(MakeBackend("portable", 1)->Describe(), "cpu, portable, 1 thread");
  EXPECT_EQ(MakeBackend("portable", 3)->Describe(), "cpu, portable, 3 threads");
}

TEST(Backend, AllocatesZeroedAlignedMemory) {
  auto backend = MakeBackend("auto", 1);
  for (const size_t bytes : {size_t{1}, size_t{5000}, size_t{5} << 20}) {
    auto buffer = backend->Allocate(bytes, "test");
    ASSERT_TRUE(buffer);
    EXPECT_EQ(buffer->bytes(), bytes);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer->data()) % 64, 0u);
    for (size_t i = 0; i < bytes; ++i) ASSERT_EQ(buffer->as<uint8_t>()[i], 0);
  }
  auto impossible = backend->Allocate(size_t{1} << 60, "the impossible");
  ASSERT_FALSE(impossible);
  EXPECT_EQ(impossible.error().code(), Code::kOsError);
  EXPECT_NE(impossible.error().message().find("the impossible"), std::string::npos);
}

// One step of a tiny layer, as the model runs it.
struct Layer {
  static constexpr uint32_t kHidden = 96, kHeads = 6, kKvHeads = 2, kDim = 16, kFfn = 128;
  static constexpr uint32_t kVocab = 300, kTokens = 40, kBlock = 16;
  static constexpr uint32_t kQkv = (kHeads + 2 * kKvHeads) * kDim;

  explicit Layer(Backend& b) : backend(b) {
    Random random(1);
    qkv_weight = Pack(random, kQkv, kHidden);
    up_weight = Pack(random, 2 * kFfn, kHidden);
    down_weight = Pack(random, kHidden, kFfn);
    head = Pack(random, kVocab, kHidden);
    norm = random.Normals(kHidden);
    cos_sin.assign(size_t{64} * kDim, 0.5f);
    for (uint32_t i = 0; i < kTokens; ++i) {
      ids.push_back(TokenId{i});
      positions.push_back(i);
      slots.push_back(SlotId{kBlock + i});
    }
    layout = {1, kKvHeads, kDim, kBlock, KvCacheDType::kF8E4M3};
    cache.resize(layout.LayerBlockBytes() * 4);
  }

  std::unique_ptr<LinearWeight> Pack(Random& random, uint32_t rows, uint32_t cols) {
    const auto values = random.Normals(size_t{rows} * cols, 0.1f);
    const HostMatrix part{values.data(), DType::kF32, rows, cols};
    return std::move(*backend.PackLinear({&part, 1}, DType::kBf16));
  }

  void Step() {
    const KvView view{cache.data(), scales, scales, layout};
    backend.Embed({head.get(), ids.data(), x.data(), kTokens});
    backend.AddRmsNorm({x.data(), nullptr, norm.data(), y.data(), kTokens, kHidden, 1e-5f});
    backend.Linear({y.data(), qkv_weight.get(), qkv.data(), kTokens, false});
    backend.RopeKvStore({qkv.data(), positions.data(), slots.data(), cos_sin.data(), view,
                         &num_saturated, kTokens, kHeads});
    backend.PagedAttention(
        {qkv.data(), y.data(), view, table, starts, lens, 1, kTokens, kHeads, 3, 0.25f});
    backend.Linear({y.data(), up_weight.get(), up.data(), kTokens, false});
    backend.SiluMul({up.data(), act.data(), kTokens, kFfn});
    backend.Linear({act.data(), down_weight.get(), y.data(), kTokens, false});
    backend.AddRmsNorm({x.data(), y.data(), norm.data(), y.data(), kTokens, kHidden, 1e-5f});
    backend.GatherRows({y.data(), last, x.data(), 1, kHidden});
    backend.Linear({x.data(), head.get(), logits.data(), 1, true});
    SampleRow row{};
    row.temperature = 1;
    row.top_p = 0.9f;
    row.repetition_penalty = 1;
    row.draw = true;
    row.num_logprobs = 5;
    backend.Sample({logits.data(), &row, &result, 1, kVocab});
    backend.Synchronize();
  }

  Backend& backend;
  std::unique_ptr<LinearWeight> qkv_weight, up_weight, down_weight, head;
  std::vector<float> norm, cos_sin;
  std::vector<TokenId> ids;
  std::vector<uint32_t> positions;
  std::vector<SlotId> slots;
  KvLayout layout{};
  std::vector<uint8_t> cache;
  float scales[kKvHeads] = {1, 1};
  BlockId table[3] = {BlockId{1}, BlockId{2}, BlockId{3}};
  uint32_t starts[2] = {0, kTokens}, lens[1] = {kTokens}, last[1] = {kTokens - 1};
  uint64_t num_saturated = 0;
  std::vector<float> x = std::vector<float>(kTokens * kHidden), y = x;
  std::vector<float> qkv = std::vector<float>(kTokens * kQkv);
  std::vector<float> up = std::vector<float>(kTokens * 2 * kFfn);
  std::vector<float> act = std::vector<float>(kTokens * kFfn);
  std::vector<float> logits = std::vector<float>(kVocab);
  SampleResult result{};
};

BackendLimits LayerLimits() {
  return {.max_num_seqs = 4,
          .max_num_batched_tokens = Layer::kTokens,
          .max_num_logits_rows = 4,
          .max_model_len = 64,
          .num_heads = Layer::kHeads,
          .num_kv_heads = Layer::kKvHeads,
          .head_dim = Layer::kDim,
          .hidden_size = Layer::kHidden,
          .intermediate_size = Layer::kFfn,
          .vocab_size = Layer::kVocab};
}

TEST(Backend, OpsDoNotAllocate) {
  for (const std::string& set : InstructionSets()) {
    for (const uint32_t num_threads : {1u, 3u}) {
      auto backend = MakeBackend(set, num_threads);
      ASSERT_TRUE(backend->Reserve(LayerLimits()));
      Layer layer(*backend);
      const uint64_t before = g_num_allocations.load();
      for (int i = 0; i < 3; ++i) layer.Step();
      EXPECT_EQ(g_num_allocations.load(), before) << set;
      EXPECT_NE(layer.result.token, kNoToken);
    }
  }
}

}  // namespace
}  // namespace kvs
