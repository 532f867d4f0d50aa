// JSON text -> Value, in the order of its keys. The door to the JSON library of this layer.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "kvserve/status.h"
#include "template/value.h"

namespace kvs::jinja {

// Deeper input is refused; what is built around it, and what templates build of it, has room left.
inline constexpr uint32_t kMaxJsonNesting = 64;

// Every string gets `origin`. kInvalidArgument with the byte where the text stops being JSON (RFC
// 8259, UTF-8), or for nesting beyond kMaxJsonNesting, a key that stands twice, a number beyond a
// double. Integers beyond 64 bits become floats. Linear in the text.
Result<Value> ParseJsonValue(std::string_view json, Origin origin);

}  // namespace kvs::jinja
