// One plain struct per operation: the seam between src/ (which fills them) and kernels/ (which
// reads them). Pointers are to memory of the backend that runs the op, shapes are row-major, `act`
// is Backend::activation_dtype(). No op allocates; none keeps a pointer after it returns.
#pragma once

#include <cstdint>

#include "kvserve/dtype.h"
#include "kvserve/ids.h"
#include "kvserve/kv_layout.h"

namespace kvs {

// A weight matrix in the backend's own packed order. Made by Backend::PackLinear.
class LinearWeight {
 public:
  virtual ~LinearWeight() = default;
  uint32_t out_features = 0;
  uint32_t in_features = 0;
  DType dtype = DType::kBf16;
};

// Bins of KvStats::counts: all values of a float32's upper 16 bits with the sign clear, which is
// the precision of bfloat16.
inline constexpr uint32_t kKvStatsBins = 1u << 15;

// What one layer's keys and values reach, gathered by RopeKvStore: over every token of every call
// since the memory was last zeroed. x is the element as it is about to be divided by its scale and
// encoded: K after rotation, both in the precision the op computes in.
//
// A GPU gathers in a variant of its kernel (or a kernel beside it) that runs only while
// `largest_bits` is set, so that serving pays nothing: an atomic maximum and atomic additions, best
// reduced over a warp first. The pointers are the same for every step between two calls of
// KvCache::Observe; a captured graph with other pointers is captured again.
struct KvStats {
  uint32_t* largest_bits = nullptr;   // [2 (K, V)][num_kv_heads] float32 bits of the largest |x|,
                                      // compared as integers: NaN wins. Null: nothing is gathered
  uint32_t* num_saturated = nullptr;  // [2][num_kv_heads] elements clipped to the largest FP8 code
  // [2][num_kv_heads][kKvStatsBins] number of x in each bin, bin = float32 bits of |x| >> 16; wraps
  // at 2^32. Null: not gathered, which spares its cost.
  uint32_t* counts = nullptr;
};

// One layer of the KV cache.
struct KvView {
  void* data;            // layout.dtype, one layer as KvLayout describes
  const float* k_scale;  // [num_kv_heads]; real = stored * scale; 1 without calibration
  const float* v_scale;  // [num_kv_heads]
  KvLayout layout;       // dtype may differ from layer to layer
  KvStats stats = {};    // read by RopeKvStore alone
};

struct EmbedParams {
  const LinearWeight* table;  // [vocab_size, hidden]; may be the packed, tied lm_head
  const TokenId* token_ids;   // [num_tokens], each < vocab_size
  void* out;                  // [num_tokens, hidden] act
  uint32_t num_tokens;
  // Both set: token i is sampled[sampled_rows[i]] where that row is not kNoSampledRow. Of a sampled
  // kNoToken the result is of no meaning.
  const uint32_t* sampled_rows = nullptr;  // [num_tokens]
  const TokenId* sampled = nullptr;        // Backend::sampled_tokens()
};

// residual += x (when x is set), then out = residual / rms(residual) * weight, over each row.
// rms = sqrt(mean of squares + eps), Zhang & Sennrich 2019; computed in float32.
struct AddRmsNormParams {
  void* residual;       // [num_rows, dim] act; updated in place when x is set
  const void* x;        // [num_rows, dim] act, or null
  const float* weight;  // [dim]
  void* out;            // [num_rows, dim] act
  uint32_t num_rows;
  uint32_t dim;
  float eps;
};

// What becomes of a product.
enum class LinearFinish : uint8_t {
  kStore,    // out = product
  kAdd,      // out += product
  kSiluMul,  // out = silu(first half of the product's columns) * second half, as SiluMulParams
};

// out = x * W^T. A row's result depends on that row and W alone, bit for bit, whatever num_rows is:
// every output element is accumulated over in_features in one fixed order.
struct LinearParams {
  const void* x;  // [num_rows, in_features] act
  const LinearWeight* weight;
  void* out;  // [num_rows, out_features], float32 if out_is_f32, else act
  uint32_t num_rows;
  bool out_is_f32;
  // Where Backend::FusesLinear says so, and with out_is_f32 false unless kStore:
  const float* norm_weight = nullptr;  // [in_features]: x is normalized first, as AddRmsNormParams
  float norm_eps = 0.0f;
  LinearFinish finish = LinearFinish::kStore;  // kSiluMul: out is [num_rows, out_features / 2]
};

// Per head of Q, K and V, in this order and in float32: adds the bias (Q, K, V), normalizes
// (Q and K, as AddRmsNorm over head_dim), rotates (Q and K, the "rotate half" convention of Llama
// in Transformers: dim i pairs with i + head_dim / 2). Then writes K and V to their slots, encoded
// as the cache stores them (round to nearest even, FP8 saturating, value / scale). Q is changed in
// place; what K and V hold afterwards is of no meaning.
struct RopeKvStoreParams {
  void* qkv;  // [num_tokens, (num_heads + 2 * num_kv_heads) * head_dim] act: Q, K, V
  const uint32_t* positions;   // [num_tokens]
  const SlotId* slot_mapping;  // [num_tokens]
  const float* cos_sin;        // [max_position, head_dim]: head_dim/2 cosines, then sines
  KvView kv;                   // with kv.stats set, gathers them
  uint64_t* num_saturated;     // [1], host memory: += elements clipped to the largest FP8 code
  uint32_t num_tokens;
  uint32_t num_heads;
  const float* qkv_bias = nullptr;  // [(num_heads + 2 * num_kv_heads) * head_dim], or null: none
  const float* q_norm = nullptr;    // [head_dim] weights, or null: Q is not normalized
  const float* k_norm = nullptr;    // [head_dim] weights, or null: K is not normalized
  float norm_eps = 0.0f;            // of q_norm and k_norm
};

// Causal attention of each new token over all earlier positions of its sequence and itself, or the
// last `window` of these, read from the paged cache and dequantized on read:
// softmax(q k^T * sm_scale) v. Cold prefill, chunk, cache hit and decode are this one op. A row's
// result depends on its query, its position and the cached K/V alone: partial softmax states are
// formed over fixed position ranges and merged in order.
struct PagedAttentionParams {
  const void* qkv;  // as RopeKvStoreParams::qkv, after it, or with `rope` before it
  void* out;        // [num_tokens, num_heads * head_dim] act
  KvView kv;
  // [num_seqs, max_blocks_per_seq]. A block that lies before the window of every new token may be
  // given as the null block, which holds finite values.
  const BlockId* block_tables;
  const uint32_t* query_start_loc;  // [num_seqs + 1] prefix sums of new tokens
  const uint32_t* seq_lens;         // [num_seqs] positions to attend to, new ones included
  uint32_t num_seqs;
  uint32_t num_tokens;
  uint32_t num_heads;
  uint32_t max_blocks_per_seq;
  float sm_scale;  // 1 / sqrt(head_dim) unless the model says otherwise
  // 0: none. Else a query at position p attends to positions [p - window + 1, p], as the sliding
  // window of Mistral in Transformers.
  uint32_t window = 0;
  // Where Backend::FusesRope says so, and kv.stats is not set: RopeKvStore with these, of the same
  // qkv, kv and tokens, is done first. Every sequence then has one new token, its last one, which
  // no other sequence attends to; those whose block is the null block are not stored. What qkv
  // holds afterwards is of no meaning.
  const RopeKvStoreParams* rope = nullptr;
};

// out = silu(gate) * up, silu(x) = x / (1 + exp(-x)).
struct SiluMulParams {
  const void* gate_up;  // [num_rows, 2 * dim] act: gate, then up
  void* out;            // [num_rows, dim] act
  uint32_t num_rows;
  uint32_t dim;
};

// Softmax over the logits of each row, then its top_k largest probabilities; of equal ones, the
// expert with the lower index first. float32.
struct RouteExpertsParams {
  const float* logits;    // [num_rows, num_experts]
  uint32_t* expert_ids;   // [num_rows, top_k], the most likely first
  float* expert_weights;  // [num_rows, top_k]: the probabilities, over their sum if `normalize`
  uint32_t num_rows;
  uint32_t num_experts;
  uint32_t top_k;
  bool normalize;
};

// out[i] = x[i / rows_per_x] * experts[expert_ids[i]]^T. As in LinearParams, a row's result depends
// on that row and its expert alone.
struct ExpertLinearParams {
  const void* x;                       // [num_rows / rows_per_x, in_features] act
  const LinearWeight* const* experts;  // [num_experts], host memory; of one shape
  const uint32_t* expert_ids;          // [num_rows], each < num_experts
  void* out;                           // [num_rows, out_features] act
  uint32_t num_rows;
  uint32_t rows_per_x;  // consecutive rows that have one row of x in common
  uint32_t num_experts;
};

// out[row] = sum of weight[row][i] * in[row][i] over i, in the order of i.
struct CombineExpertsParams {
  const void* in;               // [num_rows, top_k, dim] act
  const float* expert_weights;  // [num_rows, top_k]
  void* out;                    // [num_rows, dim] act
  uint32_t num_rows;
  uint32_t top_k;
  uint32_t dim;
};

// out[i] = in[rows[i]].
struct GatherRowsParams {
  const void* in;        // [*, dim] act
  const uint32_t* rows;  // [num_rows]
  void* out;             // [num_rows, dim] act
  uint32_t num_rows;
  uint32_t dim;
};

// A token that occurs in a row's history.
struct TokenCount {
  TokenId token;
  uint32_t output_count;  // times among the output tokens; 0 = in the prompt only
};

struct TokenBias {
  TokenId token;
  float bias;
};

// How to choose one token from one row of logits. Order, as vLLM's sampler: logprobs are taken from
// the raw logits; then logit_bias, banned ids, penalties, temperature, min_p, top_k, top_p, draw.
struct SampleRow {
  uint32_t logits_row;
  float temperature;  // 0 = greedy: the lowest id among the largest logits
  float top_p;
  float min_p;
  int32_t top_k;  // <= 0 = off
  float presence_penalty;
  float frequency_penalty;
  float repetition_penalty;
  double uniform;  // [0, 1): this draw's random number, made from seed and output position
  const TokenCount* counts;  // [num_counts], distinct tokens; empty when no penalty is set
  uint32_t num_counts;
  const TokenBias* biases;  // [num_biases]
  uint32_t num_biases;
  const TokenId* banned;  // [num_banned]: never chosen (stop tokens before min_tokens)
  uint32_t num_banned;
  bool draw;             // false: only logprobs are wanted (a prompt position)
  TokenId given;         // with !draw: the token whose logprob is wanted
  int32_t num_logprobs;  // -1 = none, 0 = the chosen token's alone, k = and the k most likely
};

inline constexpr uint32_t kMaxLogprobs = 20;

struct SampleResult {
  TokenId token;  // chosen (or given); kNoToken when a logit is NaN or +inf, or all are -inf
  float logprob;  // of `token`, when num_logprobs >= 0
  uint32_t rank;  // of `token`, 1 = most likely, when num_logprobs >= 0
  TokenId top_ids[kMaxLogprobs];
  float top_logprobs[kMaxLogprobs];
};

struct SampleParams {
  float* logits;          // [*, vocab_size] float32; scratch after the call
  const SampleRow* rows;  // [num_rows], host memory; logits_row distinct
  SampleResult* results;  // [num_rows], host memory
  uint32_t num_rows;
  uint32_t vocab_size;
};

}  // namespace kvs
