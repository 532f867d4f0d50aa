// ApiError: a refusal as OpenAI's clients read it.
#pragma once

#include <string>
#include <tl/expected.hpp>
#include <utility>

#include "http/http_message.h"
#include "kvserve/status.h"

namespace kvs {

struct ApiError {
  int status;           // HTTP
  std::string type;     // "invalid_request_error", ...
  std::string message;  // a sentence: what, the value seen, what is allowed
  std::string param;    // the field at fault; empty = null
  std::string code;     // "context_length_exceeded", ...; empty = null
};

template <class T>
using ApiResult = tl::expected<T, ApiError>;

// 400 about one field.
ApiError InvalidRequest(std::string message, std::string param = {}, std::string code = {});
// 503 that is worth a retry.
ApiError Overloaded(std::string message);
// 404 with the code model_not_found.
ApiError ModelNotFound(const std::string& asked, const std::string& served);
ApiError FromStatus(const Status& status);
// With the type that belongs to the HTTP status.
ApiError ErrorOfStatus(int status, std::string message);

// {"error":{...}}
std::string ToJson(const ApiError& error);
// The whole answer: a 503 carries Retry-After, a 401 WWW-Authenticate.
HttpResponse ToResponse(const ApiError& error);

}  // namespace kvs
