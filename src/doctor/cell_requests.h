// The requests that every cell of the isolation matrix gets, and what comes back.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "client/token_compare.h"
#include "kvserve/status.h"
#include "net/url.h"

namespace kvs {

struct CellRequest {
  std::string name;  // "text 1, repeated"
  std::vector<uint32_t> prompt;
  uint32_t max_tokens = 0;
  // Tokens at its head that an earlier request has left in a prefix cache: whole blocks, and never
  // the last token. 0: nothing can be found.
  uint32_t reusable_tokens = 0;
};

// Three texts, each sent cold, repeated, and with a continuation: the hit of the second leaves a
// few tokens to compute, that of the third several blocks. `texts` are token ids, longer than what
// is taken of them; see TokensPerText.
std::vector<CellRequest> MakeCellRequests(const std::vector<std::vector<uint32_t>>& texts,
                                          uint32_t block_size);
// Tokens that each text needs, and positions that a sequence takes with its answer.
uint32_t TokensPerText(uint32_t block_size);
uint32_t PositionsPerRequest(uint32_t block_size);

struct CellAnswer {
  std::string name;
  AnsweredTokens tokens;
  uint32_t prompt_tokens = 0;
  uint32_t cached_tokens = 0;
  std::optional<uint64_t> hit_growth;  // of the server's counter, in tokens, over this request
  double seconds = 0.0;
};

// Where the requests of a cell are: set by the thread that sends them, read by the one that
// watches. The name is that of the request in flight.
struct CellProgress {
  std::atomic<size_t> request{0};
  std::atomic<std::chrono::steady_clock::rep> since{0};  // of that request
  std::atomic<bool> done{false};

  void Enter(size_t index);
  std::chrono::steady_clock::duration InFlight() const;
};

// Sends all, one after the other, then `at_once` of them side by side, whose answers follow in the
// same order. The first request that fails ends it.
struct CellAnswers {
  std::vector<CellAnswer> answers;  // as many as succeeded
  std::vector<CellAnswer> at_once;
  std::optional<Status> error;
};
CellAnswers SendCellRequests(const Url& url, const std::vector<CellRequest>& requests,
                             CellProgress& progress);

// The body of a completion with logprobs. kDataError.
Result<CellAnswer> ParseCellAnswer(const std::string& body);

}  // namespace kvs
