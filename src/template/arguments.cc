#include "template/arguments.h"

#include <algorithm>

#include "template/error.h"
#include "template/operators.h"

namespace kvs::jinja {

BoundArguments::BoundArguments(std::string_view owner, const Signature& signature,
                               Arguments arguments)
    : owner_(owner) {
  for (std::string_view left = signature.names; !left.empty();) {
    const size_t end = std::min(left.find(' '), left.size());
    names_.push_back(left.substr(0, end));
    left.remove_prefix(std::min(end + 1, left.size()));
  }
  values_.resize(names_.size());
  if (arguments.positional.size() > names_.size()) {
    Fail("{}() takes at most {} argument(s) ({} given)", owner, names_.size(),
         arguments.positional.size());
  }
  for (size_t i = 0; i < arguments.positional.size(); ++i) {
    values_[i] = std::move(arguments.positional[i]);
  }
  for (auto& [name, value] : arguments.named) {
    const auto found = std::find(names_.begin(), names_.end(), name);
    if (found == names_.end()) Fail("{}() got an unexpected keyword argument '{}'", owner, name);
    auto& place = values_[static_cast<size_t>(found - names_.begin())];
    if (place) Fail("{}() got multiple values for argument '{}'", owner, name);
    place = std::move(value);
  }
  for (size_t i = 0; i < signature.num_required; ++i) {
    if (!values_[i]) Fail("{}() is missing the argument '{}'", owner, names_[i]);
  }
}

int64_t BoundArguments::Integer(size_t i, int64_t otherwise) const {
  return Has(i) ? RequireInteger(*values_[i], names_[i]) : otherwise;
}

bool BoundArguments::Truth(size_t i, bool otherwise) const {
  return Has(i) ? IsTrue(*values_[i]) : otherwise;
}

const Text& BoundArguments::String(size_t i) const {
  const Value& value = *values_[i];
  RequireDefined(value);
  if (!value.is_string()) {
    Fail("{}(): '{}' must be str, not {}", owner_, names_[i], TypeName(value));
  }
  return value.text();
}

}  // namespace kvs::jinja
