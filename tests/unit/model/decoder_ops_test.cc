// The order of a step's operations, where a device fuses them and where it does not, on a backend
// that computes nothing.
#include <gtest/gtest.h>

#include <set>

#include "model/model.h"
#include "support/host_backend.h"
#include "unit/model/model_fixture.h"

namespace kvs {
namespace {

// Writes down the operations, each of which may read only what one before it has written.
class TracingBackend final : public test::HostBackend {
 public:
  bool fuses_linear = false, fuses_silu_mul = false;
  std::vector<std::string> ops;

  Result<std::unique_ptr<LinearWeight>> PackLinear(std::span<const HostMatrix>, DType) override {
    return std::make_unique<LinearWeight>();
  }
  bool FusesLinear(uint32_t) const override { return fuses_linear; }
  bool FusesSiluMul(const LinearWeight&, uint32_t) const override { return fuses_silu_mul; }
  void Embed(const EmbedParams& params) override { Add("embed", {}, params.out); }
  void AddRmsNorm(const AddRmsNormParams& params) override {
    Add("norm", {params.residual, params.x != nullptr ? params.x : params.residual}, params.out);
  }
  void Linear(const LinearParams& params) override {
    std::string name = params.norm_weight != nullptr ? "norm+linear" : "linear";
    if (params.finish == LinearFinish::kSiluMul) name += "+silu";
    if (params.finish != LinearFinish::kAdd) return Add(name, {params.x}, params.out);
    Add(name + "+add", {params.x, params.out}, params.out);
  }
  void RopeKvStore(const RopeKvStoreParams& params) override {
    Add("rope", {params.qkv}, params.qkv);
  }
  void PagedAttention(const PagedAttentionParams& params) override {
    EXPECT_TRUE(params.rope == nullptr || params.rope->qkv == params.qkv);
    Add(params.rope != nullptr ? "rope+attention" : "attention", {params.qkv}, params.out);
  }
  void SiluMul(const SiluMulParams& params) override { Add("silu", {params.gate_up}, params.out); }
  void GatherRows(const GatherRowsParams& params) override {
    Add("gather", {params.in}, params.out);
  }

 private:
  void Add(const std::string& op, std::initializer_list<const void*> reads, const void* writes) {
    for (const void* read : reads) {
      EXPECT_TRUE(written_.contains(read)) << ops.size() << ", " << op;
    }
    ops.push_back(op);
    written_.insert(writes);
  }
  std::set<const void*> written_;
};

constexpr uint32_t kNumLayers = 3;

// The operations of a step that gives one sequence one more token.
void TraceStep(TracingBackend& backend) {
  ModelConfig config;
  config.architecture = "LlamaForCausalLM";
  config.vocab_size = 64;
  config.hidden_size = 32;
  config.intermediate_size = 64;
  config.num_layers = kNumLayers;
  config.num_heads = 2;
  config.num_kv_heads = 1;
  config.head_dim = 16;
  config.max_position_embeddings = 64;
  ModelLoadOptions options;
  options.load_format = LoadFormat::kDummy;
  options.num_blocks = 4;
  options.limits = {.max_num_seqs = 2,
                    .max_num_batched_tokens = 16,
                    .max_model_len = 64,
                    .max_num_logits_rows = 2,
                    .block_size = 16};
  const auto model = Model::Load(config, options, backend);
  ASSERT_TRUE(model.has_value()) << model.error().message();
  const std::vector<TokenId> tokens = {{1}};
  const std::vector<BlockId> blocks = {{1}};
  StepPlan plan;
  plan.slices = {{tokens, 3, blocks, 1}};
  plan.num_tokens = 1;
  plan.num_logits_rows = 1;
  (*model)->Forward(plan);
}

std::vector<std::string> Step(const std::vector<std::string>& layer,
                              const std::vector<std::string>& end) {
  std::vector<std::string> ops = {"embed"};
  for (uint32_t l = 0; l < kNumLayers; ++l) ops.insert(ops.end(), layer.begin(), layer.end());
  ops.insert(ops.end(), end.begin(), end.end());
  return ops;
}
const std::vector<std::string> kEnd = {"norm", "gather", "linear"};

TEST(DecoderOpsTest, OpsThatDoOneThingEach) {
  TracingBackend backend;
  TraceStep(backend);
  EXPECT_EQ(backend.ops, Step({"norm", "linear", "rope", "attention", "linear", "norm", "linear",
                               "silu", "linear"},
                              kEnd));
}

TEST(DecoderOpsTest, OpsThatTheBackendFuses) {
  TracingBackend backend;
  backend.fuses_rope = true;
  backend.fuses_silu_mul = true;
  TraceStep(backend);
  EXPECT_EQ(
      backend.ops,
      Step({"norm", "linear", "rope+attention", "linear", "norm", "linear+silu", "linear"}, kEnd));

  TracingBackend whole;
  whole.fuses_rope = true;
  whole.fuses_linear = true;
  TraceStep(whole);
  EXPECT_EQ(whole.ops,
            Step({"norm+linear", "rope+attention", "linear+add", "norm+linear+silu", "linear+add"},
                 kEnd));
}

}  // namespace
}  // namespace kvs
