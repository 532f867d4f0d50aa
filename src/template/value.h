// Value: what a template computes with. Python's kinds, immutable but for namespaces; a copy is a
// pointer. Lists and dicts are counted by reference and cannot contain themselves; objects
// (namespaces, macros, loops) live in the render that made them.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "template/text.h"

namespace kvs::jinja {

class Object;
class Value;

// Containers nested deeper are refused: what walks them, their destructor too, recurses.
inline constexpr uint32_t kMaxNesting = 128;

struct Undefined {
  std::string what;  // "'x' is undefined"
};

struct List {
  std::vector<Value> items;
  bool is_tuple = false;
  uint32_t nesting = 1;  // levels of containers, this one included
};

// Keeps the order of insertion, as Python does. Lookup is by hash once there are many keys.
class Dict {
 public:
  // Null when absent.
  const Value* Find(const Value& key) const;
  const Value* Find(std::string_view key) const;
  // A key that is there keeps its place and gets the new value.
  // REQUIRES: IsHashable(key).
  void Set(Value key, Value value);

  const std::vector<std::pair<Value, Value>>& entries() const { return entries_; }
  size_t size() const;
  uint32_t nesting() const { return nesting_; }

 private:
  std::optional<size_t> IndexOf(const Value& key) const;

  std::vector<std::pair<Value, Value>> entries_;
  std::unordered_multimap<size_t, size_t> index_;  // hash -> place; empty while there are few
  uint32_t nesting_ = 1;
};

class Value {
 public:
  enum class Kind : uint8_t {
    kUndefined,
    kNone,
    kBool,
    kInt,
    kFloat,
    kString,
    kList,
    kDict,
    kObject
  };

  Value() : data_(std::monostate()) {}      // None
  Value(bool value) : data_(value) {}       // NOLINT(google-explicit-constructor): as literals read
  Value(int64_t value) : data_(value) {}    // NOLINT(google-explicit-constructor)
  Value(double value) : data_(value) {}     // NOLINT(google-explicit-constructor)
  Value(Object* object) : data_(object) {}  // NOLINT(google-explicit-constructor)
  Value(Text text) : data_(std::make_shared<const Text>(std::move(text))) {}  // NOLINT
  Value(const char*) = delete;  // a text needs an origin

  static Value String(std::string bytes, Origin origin) {
    return Value(Text(std::move(bytes), origin));
  }
  // Throws TemplateError when nested deeper than kMaxNesting.
  static Value OfList(std::vector<Value> items, bool is_tuple = false);
  static Value OfDict(Dict dict);
  static Value OfUndefined(std::string what);

  Kind kind() const;
  bool is_undefined() const { return kind() == Kind::kUndefined; }
  bool is_none() const { return kind() == Kind::kNone; }
  bool is_string() const { return kind() == Kind::kString; }
  bool is_list() const { return kind() == Kind::kList; }
  bool is_tuple() const { return is_list() && list().is_tuple; }
  bool is_dict() const { return kind() == Kind::kDict; }
  bool is_object() const { return kind() == Kind::kObject; }
  bool is_bool() const { return kind() == Kind::kBool; }
  // An int or, as in Python, a bool.
  bool is_integral() const { return kind() == Kind::kInt || kind() == Kind::kBool; }
  bool is_number() const { return is_integral() || kind() == Kind::kFloat; }

  // REQUIRES: the kind that each names.
  bool boolean() const { return std::get<bool>(data_); }
  int64_t integer() const { return is_bool() ? boolean() : std::get<int64_t>(data_); }
  double real() const;
  const Text& text() const { return *std::get<std::shared_ptr<const Text>>(data_); }
  const std::string& bytes() const { return text().bytes(); }
  const List& list() const { return *std::get<std::shared_ptr<const List>>(data_); }
  const Dict& dict() const { return *std::get<std::shared_ptr<const Dict>>(data_); }
  Object& object() const { return *std::get<Object*>(data_); }
  const Undefined& undefined() const { return *std::get<std::shared_ptr<const Undefined>>(data_); }

  uint32_t nesting() const;
  // The same string, list, dict or object, or an equal atom of the same kind (`is sameas`).
  bool Same(const Value& other) const;

 private:
  std::variant<std::monostate, bool, int64_t, double, std::shared_ptr<const Text>,
               std::shared_ptr<const List>, std::shared_ptr<const Dict>,
               std::shared_ptr<const Undefined>, Object*>
      data_;
};

// Here, since it needs the size of a Value.
inline size_t Dict::size() const { return entries_.size(); }

// Python's type name: "str", "int", "NoneType".
std::string TypeName(const Value& value);
bool IsTrue(const Value& value);
bool IsHashable(const Value& value);
// == of Python: 1 == 1.0 == true; texts by their bytes alone.
bool Equal(const Value& a, const Value& b);
// Three-way order for <, sort, min: nullopt when Python raises TypeError.
std::optional<int> Order(const Value& a, const Value& b);
// Whether a text of the user's is in it.
bool HoldsUserText(const Value& value);

}  // namespace kvs::jinja
