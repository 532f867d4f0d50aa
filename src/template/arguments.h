// Arguments of filters, methods and functions, matched with their parameters as Python does.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "template/object.h"

namespace kvs::jinja {

// Names of parameters, separated by a space; the first `num_required` must be given.
struct Signature {
  std::string_view names;
  size_t num_required = 0;
};

class BoundArguments {
 public:
  // Throws TemplateError: too many, unknown, twice, missing. `owner` is named in the message.
  BoundArguments(std::string_view owner, const Signature& signature, Arguments arguments);

  bool Has(size_t i) const { return values_[i].has_value(); }
  // Given and not None.
  bool HasValue(size_t i) const { return Has(i) && !values_[i]->is_none(); }
  // REQUIRES: Has(i).
  const Value& operator[](size_t i) const { return *values_[i]; }
  int64_t Integer(size_t i, int64_t otherwise) const;
  bool Truth(size_t i, bool otherwise) const;
  // A string; TemplateError for another type. REQUIRES: Has(i).
  const Text& String(size_t i) const;

 private:
  std::string_view owner_;
  std::vector<std::string_view> names_;
  std::vector<std::optional<Value>> values_;
};

}  // namespace kvs::jinja
