// Routes over fakes, asked without sockets.
#pragma once

#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <utility>

#include "fake_engine.h"
#include "fake_tokenizer.h"
#include "http/routes.h"

namespace kvs::testing {

class RoutesTest : public ::testing::Test {
 protected:
  RoutesTest() {
    context_.served_model_names = {"tiny", "org/tiny"};
    context_.model_root = "/models/tiny";
    context_.version = "1.2.3";
    context_.server_info = [] { return R"({"kv_cache_dtype":"fp8_e4m3"})"; };
  }

  Routes& routes() {
    if (!routes_) routes_.emplace(context_, tokenizer_, engine_, metrics_);
    return *routes_;
  }
  HttpResponse Ask(const std::string& method, const std::string& path, const std::string& body = {},
                   HttpHeaders headers = {}) {
    HttpRequest request;
    request.method = method;
    request.path = path;
    request.headers = std::move(headers);
    request.body = body;
    request.over_limit = over_limit_;
    auto response = routes().CheckHead(request);
    if (!response) response = routes().Handle(request);
    routes().Answered(request, *response, true);
    return *std::move(response);
  }
  static std::string HeaderOf(const HttpResponse& response, const std::string& name) {
    for (const auto& [key, value] : response.headers) {
      if (key == name) return value;
    }
    return {};
  }

  ServerContext context_;
  FakeTokenizer tokenizer_;
  FakeEngine engine_;
  MetricsRegistry metrics_;
  std::optional<Routes> routes_;
  bool over_limit_ = false;
};

}  // namespace kvs::testing
