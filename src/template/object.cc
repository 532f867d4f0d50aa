#include "template/object.h"

#include "template/error.h"

namespace kvs::jinja {

// NOLINTNEXTLINE(performance-unnecessary-value-param): overrides take the arguments
Value Object::Call(Render&, Arguments) { Fail("'{}' object is not callable", type_name()); }

std::optional<Value> Namespace::GetAttribute(std::string_view name) {
  for (const auto& [known, value] : attributes_) {
    if (known == name) return value;
  }
  return std::nullopt;
}

void Namespace::Set(std::string_view name, Value value) {
  for (auto& [known, old] : attributes_) {
    if (known != name) continue;
    old = std::move(value);
    return;
  }
  attributes_.emplace_back(name, std::move(value));
}

}  // namespace kvs::jinja
