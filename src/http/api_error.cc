#include "http/api_error.h"

#include <fmt/format.h>

#include "http/json_text.h"

namespace kvs {
namespace {

const char* TypeOf(int status) {
  switch (status) {
    case 401:
      return "authentication_error";
    case 404:
      return "not_found_error";
    case 500:
      return "internal_error";
    case 503:
      return "overloaded_error";
    default:
      return "invalid_request_error";
  }
}

int HttpStatusOf(Code code) {
  switch (code) {
    case Code::kInvalidArgument:
      return 400;
    case Code::kNotFound:
      return 404;
    case Code::kUnauthenticated:
      return 401;
    case Code::kUnavailable:
      return 503;
    default:
      return 500;
  }
}

void AppendStringOrNull(std::string_view text, std::string& out) {
  if (text.empty()) {
    out += "null";
  } else {
    AppendJsonString(text, out);
  }
}

}  // namespace

ApiError ErrorOfStatus(int status, std::string message) {
  return {status, TypeOf(status), std::move(message), {}, {}};
}

ApiError InvalidRequest(std::string message, std::string param, std::string code) {
  ApiError error = ErrorOfStatus(400, std::move(message));
  error.param = std::move(param);
  error.code = std::move(code);
  return error;
}

ApiError Overloaded(std::string message) { return ErrorOfStatus(503, std::move(message)); }

ApiError ModelNotFound(const std::string& asked, const std::string& served) {
  ApiError error =
      ErrorOfStatus(404, fmt::format("the model '{}' is not served here; '{}' is", asked, served));
  error.param = "model";
  error.code = "model_not_found";
  return error;
}

ApiError FromStatus(const Status& status) {
  ApiError error = ErrorOfStatus(HttpStatusOf(status.code()), status.message());
  error.param = status.param();
  return error;
}

std::string ToJson(const ApiError& error) {
  std::string json = R"({"error":{"message":)";
  AppendJsonString(error.message, json);
  json += R"(,"type":)";
  AppendJsonString(error.type, json);
  json += R"(,"param":)";
  AppendStringOrNull(error.param, json);
  json += R"(,"code":)";
  AppendStringOrNull(error.code, json);
  return json + "}}";
}

HttpResponse ToResponse(const ApiError& error) {
  HttpResponse response;
  response.status = error.status;
  response.body = ToJson(error);
  if (error.status == 503) response.headers.emplace_back("Retry-After", "1");
  if (error.status == 401) response.headers.emplace_back("WWW-Authenticate", "Bearer");
  return response;
}

}  // namespace kvs
