// Every code of an FP8 type through a device's KV cache: written by the op that writes keys and
// values, read by the attention that serves requests, held against kvserve/float_bits.h.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kvserve/backend.h"

namespace kvs {

struct Fp8SelfTestReport {
  KvCacheDType dtype = KvCacheDType::kF8E4M3;
  uint32_t num_encoded = 0;  // values written, as K and as V
  uint32_t num_decoded = 0;  // codes read, as K or V, in each shape of a step
  uint32_t num_failed = 0;
  std::vector<std::string> failures;  // the first of them, a sentence each
};

// What the ops are called with. Heads share one KV head.
struct Fp8SelfTestShape {
  uint32_t head_dim = 64;  // at least 16
  uint32_t num_heads = 1;
  uint32_t block_size = 16;
};

// Writes, with every code's value, the values halfway between two codes and beside that, and what
// has no code (too large, infinite, not a number). Reads every code as V from a decode step, a
// prefill and a prefill behind cached context, whose softmax is uniform, so that the result is the
// code's value; and every finite code as K, as the score of one position of two.
class Fp8SelfTest {
 public:
  // `backend` outlives the test and is used for nothing else: its scratch memory is taken. An Error
  // is that of the backend.
  static Result<std::unique_ptr<Fp8SelfTest>> Make(Backend& backend, const Fp8SelfTestShape& shape);
  virtual ~Fp8SelfTest() = default;
  virtual Result<Fp8SelfTestReport> Run(KvCacheDType dtype) = 0;
};

}  // namespace kvs
