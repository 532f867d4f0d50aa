// The order of a step's operations, and which of them each reads from, where a device fuses them
// and where it does not, on a backend that computes nothing.
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "model/model.h"
#include "support/host_backend.h"

namespace kvs {
namespace {

constexpr uint32_t kHidden = 32, kInner = 64, kQkv = 48, kVocab = 96;

// Writes down the operations as "name(what has written its input)", linear ones by the name of
// their weight. The residual stream is not named where it is added to: it is the same everywhere.
class TracingBackend final : public test::HostBackend {
 public:
  bool fuses_linear = false, fuses_silu_mul = false;
  std::vector<std::string> ops;

  Result<std::unique_ptr<LinearWeight>> PackLinear(std::span<const HostMatrix> parts,
                                                   DType) override {
    auto weight = std::make_unique<LinearWeight>();
    weight->in_features = parts[0].cols;
    for (const HostMatrix& part : parts) weight->out_features += part.rows;
    return weight;
  }
  bool FusesLinear(uint32_t) const override { return fuses_linear; }
  bool FusesSiluMul(const LinearWeight&, uint32_t) const override { return fuses_silu_mul; }
  void Embed(const EmbedParams& params) override {
    residual_ = params.out;
    Add("embed", nullptr, params.out);
  }
  void AddRmsNorm(const AddRmsNormParams& params) override {
    EXPECT_EQ(params.residual, residual_);
    Add("norm", params.x != nullptr ? params.x : params.residual, params.out);
  }
  void Linear(const LinearParams& params) override {
    std::string name = (params.norm_weight != nullptr ? "norm+" : "") + NameOf(*params.weight);
    if (params.finish == LinearFinish::kSiluMul) name += "+silu";
    if (params.finish == LinearFinish::kAdd) {
      EXPECT_EQ(params.out, residual_);
      name += "+add";
    }
    Add(name, params.x, params.out);
  }
  void RopeKvStore(const RopeKvStoreParams& params) override {
    Add("rope", params.qkv, params.qkv);
  }
  void PagedAttention(const PagedAttentionParams& params) override {
    EXPECT_TRUE(params.rope == nullptr || params.rope->qkv == params.qkv);
    Add(params.rope != nullptr ? "rope+attention" : "attention", params.qkv, params.out);
  }
  void SiluMul(const SiluMulParams& params) override { Add("silu", params.gate_up, params.out); }
  void GatherRows(const GatherRowsParams& params) override { Add("gather", params.in, params.out); }

 private:
  static std::string NameOf(const LinearWeight& weight) {
    if (weight.in_features == kInner) return "down";
    return weight.out_features == kQkv         ? "qkv"
           : weight.out_features == 2 * kInner ? "gate_up"
           : weight.out_features == kVocab     ? "lm_head"
                                               : "o";
  }
  void Add(const std::string& name, const void* reads, const void* writes) {
    ops.push_back(name + "(" + writers_[reads] + ")");
    writers_[writes] = name;
  }

  const void* residual_ = nullptr;
  std::map<const void*, std::string> writers_;
};

constexpr uint32_t kNumLayers = 3;

// The operations of a step that gives one sequence one more token.
void TraceStep(TracingBackend& backend) {
  ModelConfig config;
  config.architecture = "LlamaForCausalLM";
  config.vocab_size = kVocab;
  config.hidden_size = kHidden;
  config.intermediate_size = kInner;
  config.num_layers = kNumLayers;
  config.num_heads = 1;
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

// A step of layers that all begin alike, but for the first, whose input nothing was added to yet.
std::vector<std::string> Step(const std::string& first, const std::vector<std::string>& layer,
                              const std::vector<std::string>& end) {
  std::vector<std::string> ops = {"embed()"};
  for (uint32_t l = 0; l < kNumLayers; ++l) ops.insert(ops.end(), layer.begin(), layer.end());
  ops[1] = first;
  ops.insert(ops.end(), end.begin(), end.end());
  return ops;
}

TEST(DecoderOpsTest, OpsThatDoOneThingEach) {
  TracingBackend backend;
  TraceStep(backend);
  EXPECT_EQ(backend.ops,
            Step("norm(embed)",
                 {"norm(down)", "qkv(norm)", "rope(qkv)", "attention(rope)", "o(attention)",
                  "norm(o)", "gate_up(norm)", "silu(gate_up)", "down(silu)"},
                 {"norm(down)", "gather(norm)", "lm_head(gather)"}));
}

TEST(DecoderOpsTest, RotationAndGatingWithinOtherOps) {
  TracingBackend backend;
  backend.fuses_rope = true;
  backend.fuses_silu_mul = true;
  TraceStep(backend);
  EXPECT_EQ(backend.ops,
            Step("norm(embed)",
                 {"norm(down)", "qkv(norm)", "rope+attention(qkv)", "o(rope+attention)", "norm(o)",
                  "gate_up+silu(norm)", "down(gate_up+silu)"},
                 {"norm(down)", "gather(norm)", "lm_head(gather)"}));
}

TEST(DecoderOpsTest, NormsAndSumsWithinLinearOps) {
  TracingBackend backend;
  backend.fuses_rope = true;
  backend.fuses_linear = true;
  TraceStep(backend);
  EXPECT_EQ(backend.ops,
            Step("norm+qkv(embed)",
                 {"norm+qkv(down+add)", "rope+attention(norm+qkv)", "o+add(rope+attention)",
                  "norm+gate_up+silu(o+add)", "down+add(norm+gate_up+silu)"},
                 {"norm(down+add)", "gather(norm)", "lm_head(gather)"}));
}

}  // namespace
}  // namespace kvs
