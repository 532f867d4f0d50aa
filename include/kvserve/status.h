// Status and Result<T>: how a caller's mistake or a fault of the environment travels.
// A shortage (no free block, queue full) is std::optional or bool; a bug of ours is KVS_CHECK.
#pragma once

#include <cstdint>
#include <string>
#include <tl/expected.hpp>
#include <utility>

namespace kvs {

enum class Code : uint8_t {
  kInvalidArgument,  // the caller asked for something that is never right; HTTP 400, exit 2
  kNotFound,         // a model, file or route that is not there; HTTP 404, exit 66
  kUnauthenticated,  // HTTP 401
  kUnavailable,      // overloaded or shutting down, worth a retry; HTTP 503, exit 69
  kDataError,        // a model file that is damaged or unsupported; exit 65
  kConfigError,      // a configuration file or variable; exit 78
  kOsError,          // the operating system refused (memory, I/O); exit 71
  kCannotBind,       // address in use or not permitted; exit 73
  kInternal,         // a fault of ours that does not endanger others; HTTP 500, exit 70
};

// A sentence for a person: what, the value seen, what is allowed. `param` names the request field
// or flag at fault when there is one.
class Status {
 public:
  Status(Code code, std::string message, std::string param = {})
      : code_(code), message_(std::move(message)), param_(std::move(param)) {}

  Code code() const { return code_; }
  const std::string& message() const { return message_; }
  const std::string& param() const { return param_; }

  // The same status, with context put in front: "PREFIX: message".
  Status WithContext(const std::string& prefix) const {
    return Status(code_, prefix + ": " + message_, param_);
  }

 private:
  Code code_;
  std::string message_;
  std::string param_;
};

template <class T>
using Result = tl::expected<T, Status>;

inline tl::unexpected<Status> Error(Code code, std::string message, std::string param = {}) {
  return tl::unexpected<Status>(Status(code, std::move(message), std::move(param)));
}

// The process exit code that stands for `code` (sysexits; 2 for usage).
constexpr int ExitCodeOf(Code code) {
  switch (code) {
    case Code::kInvalidArgument:
      return 2;
    case Code::kNotFound:
      return 66;
    case Code::kUnauthenticated:
      return 77;
    case Code::kUnavailable:
      return 69;
    case Code::kDataError:
      return 65;
    case Code::kConfigError:
      return 78;
    case Code::kOsError:
      return 71;
    case Code::kCannotBind:
      return 73;
    case Code::kInternal:
      return 70;
  }
  return 70;
}

}  // namespace kvs

// The one propagation macro: returns the error of a Result-valued expression to the caller.
#define KVS_RETURN_IF_ERROR(expression)                                    \
  do {                                                                     \
    if (auto kvs_result = (expression); !kvs_result)                       \
      return tl::unexpected<::kvs::Status>(std::move(kvs_result).error()); \
  } while (false)
