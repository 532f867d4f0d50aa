#include "doctor/fp8_self_test.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <span>
#include <string_view>

#include "kvserve/float_bits.h"

namespace kvs {
namespace {

constexpr uint32_t kNumCodes = 256;
constexpr uint32_t kContext = 20;  // positions of a sequence; more than one block of 16
constexpr uint32_t kMaxTokens = 4096;
constexpr size_t kFailuresListed = 4;
// Of a softmax over two positions: half of what separates two neighbouring E4M3 codes there.
constexpr float kScoreTolerance = 5e-3f;
constexpr float kValueTolerance = 1e-5f;  // relative; 1 / kContext is not exact

float Decode(KvCacheDType dtype, uint32_t code) {
  const auto stored = static_cast<uint8_t>(code);
  return dtype == KvCacheDType::kF8E4M3 ? F8E4M3ToFloat(stored) : F8E5M2ToFloat(stored);
}

uint8_t Encode(KvCacheDType dtype, float value) {
  return dtype == KvCacheDType::kF8E4M3 ? FloatToF8E4M3(value) : FloatToF8E5M2(value);
}

// Whether `got` is what attention makes of codes of `want`. Positions that a row does not see enter
// with probability 0, and 0 times infinity is NaN.
bool IsReadAs(float want, float got) {
  if (std::isnan(want)) return std::isnan(got);
  if (std::isinf(want)) return !std::isfinite(got);
  return std::abs(got - want) <= kValueTolerance * std::abs(want);
}

// `value` as an activation holds it.
float Rounded(DType act, float value) {
  if (act == DType::kBf16) return Bf16ToFloat(FloatToBf16(value));
  if (act == DType::kF16) return F16ToFloat(FloatToF16(value));
  return value;
}

std::vector<uint8_t> ActBytes(DType act, std::span<const float> values) {
  std::vector<uint8_t> bytes(values.size() * SizeOf(act));
  for (size_t i = 0; i < values.size(); ++i) {
    if (act == DType::kF32) {
      std::memcpy(&bytes[i * 4], &values[i], 4);
      continue;
    }
    const uint16_t stored = act == DType::kBf16 ? FloatToBf16(values[i]) : FloatToF16(values[i]);
    std::memcpy(&bytes[i * 2], &stored, 2);
  }
  return bytes;
}

std::vector<float> ActValues(DType act, std::span<const uint8_t> bytes) {
  std::vector<float> values(bytes.size() / SizeOf(act));
  for (size_t i = 0; i < values.size(); ++i) {
    if (act == DType::kF32) {
      std::memcpy(&values[i], &bytes[i * 4], 4);
      continue;
    }
    uint16_t stored;
    std::memcpy(&stored, &bytes[i * 2], 2);
    values[i] = act == DType::kBf16 ? Bf16ToFloat(stored) : F16ToFloat(stored);
  }
  return values;
}

// What is written: with each finite code's value the value halfway to the next code and its
// neighbours, then what has no code.
std::vector<float> ValuesToEncode(KvCacheDType dtype, DType act) {
  std::vector<float> magnitudes;
  for (uint32_t code = 0; code < kNumCodes / 2; ++code) {
    const float value = Decode(dtype, code);
    if (!std::isfinite(value)) break;
    magnitudes.push_back(value);
    const float next = Decode(dtype, code + 1);
    if (!std::isfinite(next)) continue;
    const float halfway = value + (next - value) / 2;
    for (const float factor : {1.0f - 1.0f / 128, 1.0f, 1.0f + 1.0f / 64}) {
      magnitudes.push_back(halfway * factor);
    }
  }
  const float largest = dtype == KvCacheDType::kF8E4M3 ? kF8E4M3Max : kF8E5M2Max;
  for (const float factor : {1.03125f, 1.0625f, 1.125f}) magnitudes.push_back(largest * factor);
  magnitudes.push_back(65504.0f);  // the largest of float16
  magnitudes.push_back(std::numeric_limits<float>::infinity());
  std::vector<float> values;
  for (const float magnitude : magnitudes) {
    values.push_back(Rounded(act, magnitude));
    values.push_back(-Rounded(act, magnitude));
  }
  values.push_back(std::numeric_limits<float>::quiet_NaN());
  return values;
}

class SelfTest final : public Fp8SelfTest {
 public:
  SelfTest(Backend& backend, const Fp8SelfTestShape& shape)
      : backend_(backend), shape_(shape), act_(backend.activation_dtype()) {}
  ~SelfTest() override { backend_.Synchronize(); }  // the backend counts into num_saturated_

  Result<void> Init();
  Result<Fp8SelfTestReport> Run(KvCacheDType dtype) override;

 private:
  // Sequences of equal length, each in blocks of its own, from block 1 on.
  struct Batch {
    uint32_t num_seqs;
    uint32_t length;   // positions, new ones included
    uint32_t num_new;  // of these, the last ones
    const char* name;
  };

  uint32_t BlocksOf(uint32_t length) const {
    return (length + shape_.block_size - 1) / shape_.block_size;
  }
  size_t RowLen() const { return size_t{shape_.num_heads + 2} * shape_.head_dim; }
  // The byte of one element of K (v = 0) or V (v = 1).
  size_t ByteAt(uint32_t block, uint32_t v, uint32_t offset, uint32_t dim) const {
    return (v == 0 ? layout_.KOffset(BlockId{block}, 0) : layout_.VOffset(BlockId{block}, 0)) +
           size_t{offset} * shape_.head_dim + dim;
  }
  void Fill(uint32_t seq, const Batch& batch, uint32_t v, uint32_t position,
            std::span<const uint8_t> codes);
  KvView View() const;

  void TestEncode();
  void TestValues(const Batch& batch);
  void TestKeys(uint32_t num_new, const char* name);
  // The rows of out, num_new of each sequence, head 0.
  std::vector<float> Attend(const Batch& batch, const std::vector<float>& queries);
  void Fail(std::string what);

  template <class T>
  void Upload(const DeviceBuffer& buffer, const std::vector<T>& values) {
    KVS_CHECK(values.size() * sizeof(T) <= buffer.bytes());
    backend_.CopyToDevice(buffer.data(), values.data(), values.size() * sizeof(T));
  }

  Backend& backend_;
  const Fp8SelfTestShape shape_;
  const DType act_;
  KvLayout layout_{};
  DeviceBuffer cache_, qkv_, out_, slots_, positions_, cos_sin_, scale_, tables_, starts_, lengths_;
  std::vector<uint8_t> codes_;  // of the cache, on the host
  uint64_t num_saturated_ = 0;
  Fp8SelfTestReport report_;
};

Result<void> SelfTest::Init() {
  layout_ = {1, 1, shape_.head_dim, shape_.block_size, KvCacheDType::kF8E4M3};
  KVS_RETURN_IF_ERROR(backend_.CheckSupport(layout_, shape_.num_heads));
  KVS_RETURN_IF_ERROR(backend_.Reserve({.max_num_seqs = kNumCodes,
                                        .max_num_batched_tokens = kMaxTokens,
                                        .max_num_logits_rows = 1,
                                        .max_model_len = kContext,
                                        .num_heads = shape_.num_heads,
                                        .num_kv_heads = 1,
                                        .head_dim = shape_.head_dim,
                                        .hidden_size = shape_.head_dim,
                                        .intermediate_size = shape_.head_dim,
                                        .vocab_size = 64}));
  const uint32_t num_blocks = 1 + kNumCodes * BlocksOf(kContext);
  codes_.assign(size_t{num_blocks} * layout_.LayerBlockBytes(), 0);
  const size_t row_bytes = RowLen() * SizeOf(act_);
  const std::pair<DeviceBuffer*, size_t> wanted[] = {
      {&cache_, codes_.size()},
      {&qkv_, kMaxTokens * row_bytes},
      {&out_, kMaxTokens * row_bytes},
      {&slots_, kMaxTokens * sizeof(SlotId)},
      {&positions_, kMaxTokens * sizeof(uint32_t)},
      {&cos_sin_, shape_.head_dim * sizeof(float)},
      {&scale_, sizeof(float)},
      {&tables_, size_t{kNumCodes} * BlocksOf(kContext) * sizeof(BlockId)},
      {&starts_, (kNumCodes + 1) * sizeof(uint32_t)},
      {&lengths_, kNumCodes * sizeof(uint32_t)}};
  for (const auto& [buffer, bytes] : wanted) {
    auto memory = backend_.Allocate(bytes, "FP8 self-test");
    if (!memory) return tl::unexpected(memory.error());
    *buffer = std::move(*memory);
  }
  // Position 0: cosine 1, sine 0.
  std::vector<float> cos_sin(shape_.head_dim, 0.0f);
  std::fill_n(cos_sin.begin(), shape_.head_dim / 2, 1.0f);
  Upload(cos_sin_, cos_sin);
  Upload(scale_, std::vector<float>{1.0f});
  return {};
}

KvView SelfTest::View() const {
  return {.data = cache_.data(),
          .k_scale = scale_.as<float>(),
          .v_scale = scale_.as<float>(),
          .layout = layout_};
}

void SelfTest::Fail(std::string what) {
  ++report_.num_failed;
  if (report_.failures.size() < kFailuresListed) report_.failures.push_back(std::move(what));
}

void SelfTest::TestEncode() {
  const std::vector<float> values = ValuesToEncode(layout_.dtype, act_);
  const uint32_t dims = shape_.head_dim;
  const auto num_tokens = static_cast<uint32_t>((values.size() + dims - 1) / dims);
  std::vector<float> rows(num_tokens * RowLen(), 0.0f);
  std::vector<SlotId> slots;
  for (uint32_t token = 0; token < num_tokens; ++token) {
    slots.push_back(SlotId{shape_.block_size + token});  // from block 1 on
  }
  for (size_t i = 0; i < values.size(); ++i) {
    float* k = &rows[i / dims * RowLen() + shape_.num_heads * dims + i % dims];
    k[dims] = values[i];
    // An infinite K would make its partner in the rotation NaN.
    k[0] = std::isfinite(values[i]) ? values[i] : 0.0f;
  }
  Upload(qkv_, ActBytes(act_, rows));
  Upload(slots_, slots);
  Upload(positions_, std::vector<uint32_t>(num_tokens, 0));
  backend_.BeginStep();
  backend_.RopeKvStore({.qkv = qkv_.data(),
                        .positions = positions_.as<uint32_t>(),
                        .slot_mapping = slots_.as<SlotId>(),
                        .cos_sin = cos_sin_.as<float>(),
                        .kv = View(),
                        .num_saturated = &num_saturated_,
                        .num_tokens = num_tokens,
                        .num_heads = shape_.num_heads});
  backend_.CopyToHost(codes_.data(), cache_.data(), codes_.size());
  for (size_t i = 0; i < values.size(); ++i) {
    const uint32_t slot = slots[i / dims].value;
    for (const uint32_t v : {0u, 1u}) {
      if (v == 0 && !std::isfinite(values[i])) continue;
      const uint8_t got = codes_[ByteAt(slot / shape_.block_size, v, slot % shape_.block_size,
                                        static_cast<uint32_t>(i % dims))];
      const uint8_t want = Encode(layout_.dtype, values[i]);
      const bool both_nan =
          std::isnan(Decode(layout_.dtype, got)) && std::isnan(Decode(layout_.dtype, want));
      // Rotation by nothing makes +0 of the -0 of a K.
      const bool both_zero = v == 0 && (got & 0x7f) == 0 && (want & 0x7f) == 0;
      ++report_.num_encoded;
      if (got == want || both_nan || both_zero) continue;
      Fail(fmt::format("{} {} was stored as code {:#04x}, not {:#04x}", v == 0 ? "K" : "V",
                       values[i], got, want));
    }
  }
}

void SelfTest::Fill(uint32_t seq, const Batch& batch, uint32_t v, uint32_t position,
                    std::span<const uint8_t> codes) {
  const uint32_t block = 1 + seq * BlocksOf(batch.length) + position / shape_.block_size;
  std::copy(
      codes.begin(), codes.end(),
      codes_.begin() + static_cast<ptrdiff_t>(ByteAt(block, v, position % shape_.block_size, 0)));
}

std::vector<float> SelfTest::Attend(const Batch& batch, const std::vector<float>& queries) {
  const uint32_t num_blocks = BlocksOf(batch.length);
  std::vector<BlockId> tables;
  std::vector<uint32_t> starts = {0};
  for (uint32_t seq = 0; seq < batch.num_seqs; ++seq) {
    for (uint32_t i = 0; i < num_blocks; ++i) tables.push_back(BlockId{1 + seq * num_blocks + i});
    starts.push_back(starts.back() + batch.num_new);
  }
  const uint32_t num_tokens = batch.num_seqs * batch.num_new;
  KVS_CHECK_OP(num_tokens, <=, kMaxTokens);
  Upload(cache_, codes_);
  Upload(qkv_, ActBytes(act_, queries));
  Upload(tables_, tables);
  Upload(starts_, starts);
  Upload(lengths_, std::vector<uint32_t>(batch.num_seqs, batch.length));
  backend_.BeginStep();
  backend_.PagedAttention({.qkv = qkv_.data(),
                           .out = out_.data(),
                           .kv = View(),
                           .block_tables = tables_.as<BlockId>(),
                           .query_start_loc = starts_.as<uint32_t>(),
                           .seq_lens = lengths_.as<uint32_t>(),
                           .num_seqs = batch.num_seqs,
                           .num_tokens = num_tokens,
                           .num_heads = shape_.num_heads,
                           .max_blocks_per_seq = num_blocks,
                           .sm_scale = 1.0f});
  const size_t width = size_t{shape_.num_heads} * shape_.head_dim;
  std::vector<uint8_t> bytes(num_tokens * width * SizeOf(act_));
  backend_.CopyToHost(bytes.data(), out_.data(), bytes.size());
  return ActValues(act_, bytes);
}

// Every position of a sequence has the same codes in V and zero in K: attention's result is V.
void SelfTest::TestValues(const Batch& batch) {
  const uint32_t dims = shape_.head_dim;
  std::fill(codes_.begin(), codes_.end(), uint8_t{0});
  for (uint32_t seq = 0; seq < batch.num_seqs; ++seq) {
    std::vector<uint8_t> codes(dims);
    for (uint32_t d = 0; d < dims; ++d) codes[d] = static_cast<uint8_t>(seq * dims + d);
    for (uint32_t p = 0; p < batch.length; ++p) Fill(seq, batch, 1, p, codes);
  }
  const uint32_t num_tokens = batch.num_seqs * batch.num_new;
  const auto out = Attend(batch, std::vector<float>(num_tokens * RowLen(), 0.0f));
  const size_t width = size_t{shape_.num_heads} * dims;
  for (uint32_t token = 0; token < num_tokens; ++token) {
    for (uint32_t d = 0; d < dims; ++d) {
      const uint32_t code = (token / batch.num_new * dims + d) % kNumCodes;
      const float want = Decode(layout_.dtype, code);
      const float got = out[token * width + d];
      ++report_.num_decoded;
      if (IsReadAs(want, got)) continue;
      Fail(fmt::format("V of code {:#04x} is {} and was read as {} by {}", code, want, got,
                       batch.name));
    }
  }
}

// Sequence c has code c in K of position 0 and zero in K of position 1; V is 1 and 0 there. The
// query makes a score between 1 and 2 of it, and attention's result is the sigmoid of that score.
void SelfTest::TestKeys(uint32_t num_new, const char* name) {
  const Batch batch = {kNumCodes, 2, num_new, name};
  const uint32_t dims = shape_.head_dim;
  std::fill(codes_.begin(), codes_.end(), uint8_t{0});
  std::vector<float> queries(size_t{kNumCodes} * num_new * RowLen(), 0.0f);
  std::vector<float> scores(kNumCodes, 0.0f);
  for (uint32_t code = 0; code < kNumCodes; ++code) {
    const float value = Decode(layout_.dtype, code);
    if (!std::isfinite(value) || value == 0.0f) continue;
    Fill(code, batch, 0, 0, std::vector<uint8_t>(dims, static_cast<uint8_t>(code)));
    Fill(code, batch, 1, 0, std::vector<uint8_t>(dims, Encode(layout_.dtype, 1.0f)));
    const float factor = std::copysign(std::ldexp(1.0f, -std::ilogb(value)), value);
    scores[code] = value * factor;
    for (uint32_t row = 0; row < num_new; ++row) {
      float* q = &queries[(size_t{code} * num_new + row) * RowLen()];
      q[code % dims] = factor / 2;  // in two parts, since float16 ends at 65504
      q[(code + 1) % dims] = factor / 2;
    }
  }
  const auto out = Attend(batch, queries);
  const size_t width = size_t{shape_.num_heads} * dims;
  for (uint32_t code = 0; code < kNumCodes; ++code) {
    if (scores[code] == 0.0f) continue;
    const float want = 1.0f / (1.0f + std::exp(-scores[code]));
    const float got = out[(size_t{code} * num_new + num_new - 1) * width];
    ++report_.num_decoded;
    if (std::abs(got - want) <= kScoreTolerance) continue;
    Fail(fmt::format("K of code {:#04x} made {} of a score that should make {}, by {}", code, got,
                     want, name));
  }
}

Result<Fp8SelfTestReport> SelfTest::Run(KvCacheDType dtype) {
  KVS_CHECK(IsFp8(dtype));
  report_ = {};
  report_.dtype = dtype;
  layout_.dtype = dtype;
  const uint32_t num_seqs = (kNumCodes + shape_.head_dim - 1) / shape_.head_dim;
  TestEncode();
  TestValues({num_seqs, kContext, 1, "a decode step"});
  TestValues({num_seqs, kContext, kContext, "a prefill"});
  TestValues({num_seqs, kContext, 4, "a prefill behind cached context"});
  TestKeys(1, "a decode step");
  TestKeys(2, "a prefill");
  return report_;
}

}  // namespace

Result<std::unique_ptr<Fp8SelfTest>> Fp8SelfTest::Make(Backend& backend,
                                                       const Fp8SelfTestShape& shape) {
  auto test = std::make_unique<SelfTest>(backend, shape);
  KVS_RETURN_IF_ERROR(test->Init());
  return std::unique_ptr<Fp8SelfTest>(std::move(test));
}

}  // namespace kvs
