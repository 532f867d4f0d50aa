// One cell of the isolation matrix: a short-lived server of this executable, its requests, its end.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "doctor/cell_requests.h"
#include "doctor/interrupt.h"

namespace kvs {

struct CellPlan {
  uint32_t number = 0;  // from 1
  std::string name;     // "FP8 KV cache alone"
  bool fp8 = false;
  bool prefix_caching = false;
  std::vector<std::string> arguments;  // of kvserve
  std::filesystem::path log;
};

enum class CellFailure : uint8_t {
  kNone,
  kCrash,      // ended by a signal, or with an exit code of its own while it was needed
  kRefused,    // ended with an exit code before it was ready
  kHang,       // the time limit passed
  kError,      // answered a request with an error
  kWrongText,  // these three are found when the cells are compared
  kMissingHit,
  kFalseHit,
  kInterrupted,  // by the user
};

struct CellResult {
  CellFailure failure = CellFailure::kNone;
  std::string what;  // one sentence's worth: "was killed by SIGSEGV during text 1, repeated"
  std::vector<CellAnswer> answers;
  std::vector<CellAnswer> at_once;
  double start_seconds = 0.0;
  double total_seconds = 0.0;
};

// Never longer than the start, each request and the end may take, each `timeout`. The server is
// gone when this returns.
CellResult RunCell(const CellPlan& plan, const std::vector<CellRequest>& requests,
                   std::chrono::seconds timeout, const Interrupt& interrupt);

// The address in the server's log, once it is ready; empty before.
std::string ReadyAddress(const std::filesystem::path& log);

}  // namespace kvs
