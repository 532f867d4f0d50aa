// TemplateError: how a fault travels inside this library. Thrown anywhere below Template::Parse and
// Template::Render, which turn it into a Status; no other layer sees it.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <string>
#include <utility>

namespace kvs::jinja {

struct TemplateError {
  enum class Cause : uint8_t {
    kFault,   // the template, or what it was given, is wrong
    kRaised,  // the template called raise_exception
    kBudget,  // a limit was reached
  };

  std::string message;
  Cause cause = Cause::kFault;
  uint32_t line = 0;  // of the template; 0 where it was thrown by what knows of no line
};

template <class... Args>
[[noreturn]] void Fail(fmt::format_string<Args...> format, Args&&... args) {
  throw TemplateError{fmt::format(format, std::forward<Args>(args)...)};
}

}  // namespace kvs::jinja
