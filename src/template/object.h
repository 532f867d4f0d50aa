// What templates call and hold by reference: namespaces, macros, loops, functions. An object lives
// as long as the render that made it.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "template/value.h"

namespace kvs::jinja {

class Render;

struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
};

class Object {
 public:
  virtual ~Object() = default;
  virtual std::string type_name() const = 0;
  // nullopt: it has no such attribute.
  virtual std::optional<Value> GetAttribute(std::string_view) { return std::nullopt; }
  virtual bool is_callable() const { return false; }
  // Throws TemplateError; the default does, for what cannot be called.
  virtual Value Call(Render& render, Arguments arguments);
};

class Namespace final : public Object {
 public:
  std::string type_name() const override { return "Namespace"; }
  std::optional<Value> GetAttribute(std::string_view name) override;
  void Set(std::string_view name, Value value);

 private:
  std::vector<std::pair<std::string, Value>> attributes_;
};

}  // namespace kvs::jinja
