#include "net/http_client.h"

#include <fmt/format.h>
#include <httplib.h>

#include <csignal>
#include <utility>

namespace kvs {
namespace {

std::string ReasonOf(httplib::Error error) {
  switch (error) {
    case httplib::Error::Connection:
      return "the connection was refused or the host is not known";
    case httplib::Error::ConnectionTimeout:
      return fmt::format("no connection within {} s", HttpClient::kConnectTimeoutSeconds);
    case httplib::Error::Read:
      return fmt::format(
          "the connection was closed before the response was complete, or was "
          "silent for {} s",
          HttpClient::kReadTimeoutSeconds);
    case httplib::Error::Write:
      return "the connection was closed while the request was sent";
    case httplib::Error::SSLConnection:
      return "the TLS handshake failed; is it an http:// server?";
    case httplib::Error::SSLLoadingCerts:
      return "the CA certificates cannot be loaded";
    case httplib::Error::SSLServerVerification:
      return "its certificate does not verify; SSL_CERT_FILE may name the CA to trust";
    default:
      return httplib::to_string(error);
  }
}

}  // namespace

struct HttpClient::Impl {
  Url url;
  httplib::Headers headers;
  std::unique_ptr<httplib::ClientImpl> http;

  // The library throws on a few inputs (a header it cannot write); nothing of that leaves here.
  Result<HttpResponse> Send(httplib::Request request);
};

Result<HttpResponse> HttpClient::Impl::Send(httplib::Request request) {
  request.headers = headers;
  if (request.method == "POST") request.headers.emplace("Content-Type", "application/json");
  request.path = url.root + request.path;
  const std::string what =
      fmt::format("{} {}{}", request.method, url.ToString(), request.path.substr(url.root.size()));
  try {
    httplib::Response response;
    httplib::Error error = httplib::Error::Success;
    const bool complete = http->send(request, response, error);
    const bool stopped_by_us = error == httplib::Error::Canceled && response.status > 0;
    if (!complete && !stopped_by_us) {
      return kvs::Error(Code::kUnavailable, fmt::format("{}: {}", what, ReasonOf(error)));
    }
    return HttpResponse{response.status, std::move(response.body)};
  } catch (const std::exception& e) {
    return kvs::Error(Code::kUnavailable, fmt::format("{}: {}", what, e.what()));
  }
}

HttpClient::HttpClient(const Url& url, const std::string& api_key)
    : impl_(std::make_unique<Impl>()) {
  // A server that goes away while we write is an error to report, not a signal to die of.
  std::signal(SIGPIPE, SIG_IGN);
  impl_->url = url;
  if (url.tls) {
    impl_->http = std::make_unique<httplib::SSLClient>(url.host, url.port);
  } else {
    impl_->http = std::make_unique<httplib::ClientImpl>(url.host, url.port);
  }
  impl_->http->set_keep_alive(true);
  impl_->http->set_tcp_nodelay(true);
  impl_->http->set_connection_timeout(kConnectTimeoutSeconds);
  impl_->http->set_read_timeout(kReadTimeoutSeconds);
  impl_->http->set_write_timeout(kReadTimeoutSeconds);
  impl_->headers.emplace("Accept-Encoding", "identity");
  if (!api_key.empty()) impl_->headers.emplace("Authorization", "Bearer " + api_key);
}

HttpClient::~HttpClient() = default;

Result<HttpResponse> HttpClient::Get(const std::string& path) {
  httplib::Request request;
  request.method = "GET";
  request.path = path;
  return impl_->Send(std::move(request));
}

Result<HttpResponse> HttpClient::Post(const std::string& path, const std::string& json_body) {
  httplib::Request request;
  request.method = "POST";
  request.path = path;
  request.body = json_body;
  return impl_->Send(std::move(request));
}

Result<HttpResponse> HttpClient::PostStream(
    const std::string& path, const std::string& json_body,
    const std::function<bool(std::string_view piece)>& on_data) {
  httplib::Request request;
  request.method = "POST";
  request.path = path;
  request.body = json_body;
  int status = 0;
  std::string error_body;
  request.response_handler = [&](const httplib::Response& response) {
    status = response.status;
    return true;
  };
  request.content_receiver = [&](const char* data, size_t size, uint64_t, uint64_t) {
    if (status == 200) return on_data(std::string_view(data, size));
    error_body.append(data, size);
    return true;
  };
  auto response = impl_->Send(std::move(request));
  if (response && response->status != 200) response->body = std::move(error_body);
  return response;
}

}  // namespace kvs
