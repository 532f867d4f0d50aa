#include "template/value.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "template/error.h"
#include "template/object.h"

namespace kvs::jinja {
namespace {

constexpr size_t kIndexFrom = 8;  // fewer keys are compared one by one

size_t HashOf(const Value& key) {
  if (key.is_string()) return std::hash<std::string>()(key.bytes());
  if (key.is_number()) return std::hash<double>()(key.real());  // 1, 1.0 and true are one key
  if (!key.is_list()) return 0;
  size_t hash = 17;
  for (const Value& item : key.list().items) hash = hash * 31 + HashOf(item);
  return hash;
}

bool EqualLists(const List& a, const List& b) {
  return a.is_tuple == b.is_tuple && a.items.size() == b.items.size() &&
         std::equal(a.items.begin(), a.items.end(), b.items.begin(), Equal);
}

bool EqualDicts(const Dict& a, const Dict& b) {
  if (a.size() != b.size()) return false;
  return std::all_of(a.entries().begin(), a.entries().end(), [&](const auto& entry) {
    const Value* other = b.Find(entry.first);
    return other != nullptr && Equal(entry.second, *other);
  });
}

int Sign(int value) { return value < 0 ? -1 : value > 0 ? 1 : 0; }

std::optional<int> OrderOfLists(const List& a, const List& b) {
  const size_t common = std::min(a.items.size(), b.items.size());
  for (size_t i = 0; i < common; ++i) {
    if (Equal(a.items[i], b.items[i])) continue;
    return Order(a.items[i], b.items[i]);
  }
  return a.items.size() < b.items.size() ? -1 : a.items.size() > b.items.size() ? 1 : 0;
}

}  // namespace

std::optional<size_t> Dict::IndexOf(const Value& key) const {
  if (index_.empty()) {
    for (size_t i = 0; i < entries_.size(); ++i) {
      if (Equal(entries_[i].first, key)) return i;
    }
    return std::nullopt;
  }
  const auto [begin, end] = index_.equal_range(HashOf(key));
  for (auto found = begin; found != end; ++found) {
    if (Equal(entries_[found->second].first, key)) return found->second;
  }
  return std::nullopt;
}

const Value* Dict::Find(const Value& key) const {
  const auto index = IndexOf(key);
  return index ? &entries_[*index].second : nullptr;
}

const Value* Dict::Find(std::string_view key) const {
  if (!index_.empty()) return Find(Value::String(std::string(key), Origin::kTemplate));
  for (const auto& [name, value] : entries_) {
    if (name.is_string() && name.bytes() == key) return &value;
  }
  return nullptr;
}

void Dict::Set(Value key, Value value) {
  nesting_ = std::max({nesting_, 1 + key.nesting(), 1 + value.nesting()});
  if (const auto index = IndexOf(key)) {
    entries_[*index].second = std::move(value);
    return;
  }
  entries_.emplace_back(std::move(key), std::move(value));
  if (!index_.empty()) {
    index_.emplace(HashOf(entries_.back().first), entries_.size() - 1);
  } else if (entries_.size() > kIndexFrom) {
    for (size_t i = 0; i < entries_.size(); ++i) index_.emplace(HashOf(entries_[i].first), i);
  }
}

Value Value::OfList(std::vector<Value> items, bool is_tuple) {
  List list{std::move(items), is_tuple, 1};
  for (const Value& item : list.items) list.nesting = std::max(list.nesting, 1 + item.nesting());
  if (list.nesting > kMaxNesting) Fail("a list is nested deeper than {} levels", kMaxNesting);
  Value value;
  value.data_ = std::make_shared<const List>(std::move(list));
  return value;
}

Value Value::OfDict(Dict dict) {
  if (dict.nesting() > kMaxNesting) Fail("a dict is nested deeper than {} levels", kMaxNesting);
  Value value;
  value.data_ = std::make_shared<const Dict>(std::move(dict));
  return value;
}

Value Value::OfUndefined(std::string what) {
  Value value;
  value.data_ = std::make_shared<const Undefined>(Undefined{std::move(what)});
  return value;
}

Value::Kind Value::kind() const {
  constexpr Kind kKinds[] = {Kind::kNone,  Kind::kBool,      Kind::kInt,
                             Kind::kFloat, Kind::kString,    Kind::kList,
                             Kind::kDict,  Kind::kUndefined, Kind::kObject};
  return kKinds[data_.index()];
}

double Value::real() const {
  return kind() == Kind::kFloat ? std::get<double>(data_) : static_cast<double>(integer());
}

uint32_t Value::nesting() const {
  if (is_list()) return list().nesting;
  return is_dict() ? dict().nesting() : 0;
}

bool Value::Same(const Value& other) const {
  if (kind() != other.kind()) return false;
  switch (kind()) {
    case Kind::kList:
      return &list() == &other.list();
    case Kind::kDict:
      return &dict() == &other.dict();
    case Kind::kObject:
      return &object() == &other.object();
    default:
      return Equal(*this, other);
  }
}

std::string TypeName(const Value& value) {
  switch (value.kind()) {
    case Value::Kind::kUndefined:
      return "Undefined";
    case Value::Kind::kNone:
      return "NoneType";
    case Value::Kind::kBool:
      return "bool";
    case Value::Kind::kInt:
      return "int";
    case Value::Kind::kFloat:
      return "float";
    case Value::Kind::kString:
      return "str";
    case Value::Kind::kList:
      return value.is_tuple() ? "tuple" : "list";
    case Value::Kind::kDict:
      return "dict";
    case Value::Kind::kObject:
      return value.object().type_name();
  }
  return "object";
}

bool IsTrue(const Value& value) {
  switch (value.kind()) {
    case Value::Kind::kUndefined:
    case Value::Kind::kNone:
      return false;
    case Value::Kind::kBool:
      return value.boolean();
    case Value::Kind::kInt:
      return value.integer() != 0;
    case Value::Kind::kFloat:
      return value.real() != 0;
    case Value::Kind::kString:
      return !value.text().empty();
    case Value::Kind::kList:
      return !value.list().items.empty();
    case Value::Kind::kDict:
      return value.dict().size() != 0;
    case Value::Kind::kObject:
      return true;
  }
  return true;
}

bool IsHashable(const Value& value) {
  if (value.is_dict() || value.is_undefined()) return false;
  if (!value.is_list()) return true;
  const auto& items = value.list().items;
  return value.is_tuple() && std::all_of(items.begin(), items.end(), IsHashable);
}

bool Equal(const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) {
    if (a.is_integral() && b.is_integral()) return a.integer() == b.integer();
    return a.real() == b.real();
  }
  if (a.kind() != b.kind()) return false;
  switch (a.kind()) {
    case Value::Kind::kString:
      return a.bytes() == b.bytes();
    case Value::Kind::kList:
      return &a.list() == &b.list() || EqualLists(a.list(), b.list());
    case Value::Kind::kDict:
      return &a.dict() == &b.dict() || EqualDicts(a.dict(), b.dict());
    case Value::Kind::kObject:
      return &a.object() == &b.object();
    default:
      return true;  // None, and Undefined as jinja2 has it
  }
}

std::optional<int> Order(const Value& a, const Value& b) {
  if (a.is_integral() && b.is_integral()) {
    return a.integer() < b.integer() ? -1 : a.integer() > b.integer() ? 1 : 0;
  }
  if (a.is_number() && b.is_number()) {
    return a.real() < b.real() ? -1 : a.real() > b.real() ? 1 : 0;
  }
  // The order of UTF-8's bytes is the order of the code points.
  if (a.is_string() && b.is_string()) return Sign(a.bytes().compare(b.bytes()));
  if (a.is_list() && b.is_list() && a.is_tuple() == b.is_tuple()) {
    return OrderOfLists(a.list(), b.list());
  }
  return std::nullopt;
}

bool HoldsUserText(const Value& value) {
  if (value.is_string()) return value.text().origin() == Origin::kUser;
  if (value.is_list()) {
    const auto& items = value.list().items;
    return std::any_of(items.begin(), items.end(), HoldsUserText);
  }
  if (!value.is_dict()) return false;
  const auto& entries = value.dict().entries();
  return std::any_of(entries.begin(), entries.end(), [](const auto& entry) {
    return HoldsUserText(entry.first) || HoldsUserText(entry.second);
  });
}

}  // namespace kvs::jinja
