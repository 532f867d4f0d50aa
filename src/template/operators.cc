#include "template/operators.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "template/builtins.h"
#include "template/characters.h"
#include "template/error.h"
#include "template/percent_format.h"
#include "template/print.h"

namespace kvs::jinja {
namespace {

constexpr int64_t kMaxRepeatedBytes = int64_t{32} << 20;

[[noreturn]] void Unsupported(std::string_view op, const Value& left, const Value& right) {
  Fail("unsupported operand type(s) for {}: '{}' and '{}'", op, TypeName(left), TypeName(right));
}

int64_t FloorDivide(int64_t a, int64_t b) {
  const int64_t quotient = a / b;
  return a % b != 0 && (a < 0) != (b < 0) ? quotient - 1 : quotient;
}

Value IntegerPower(int64_t base, int64_t exponent) {
  if (exponent < 0)
    return Value(std::pow(static_cast<double>(base), static_cast<double>(exponent)));
  int64_t result = 1;
  for (; exponent > 0 && result != 0; exponent >>= 1) {
    if ((exponent & 1) != 0 && __builtin_mul_overflow(result, base, &result)) {
      Fail("an integer does not fit in 64 bits");
    }
    if (exponent > 1 && __builtin_mul_overflow(base, base, &base)) {
      Fail("an integer does not fit in 64 bits");
    }
  }
  return Value(result);
}

Value IntegerArithmetic(std::string_view op, int64_t a, int64_t b) {
  int64_t result = 0;
  bool overflow = false;
  if (op == "+") {
    overflow = __builtin_add_overflow(a, b, &result);
  } else if (op == "-") {
    overflow = __builtin_sub_overflow(a, b, &result);
  } else if (op == "*") {
    overflow = __builtin_mul_overflow(a, b, &result);
  } else if (op == "**") {
    return IntegerPower(a, b);
  } else {
    if (b == 0) Fail("division by zero");
    if (op == "/") return Value(static_cast<double>(a) / static_cast<double>(b));
    if (a == INT64_MIN && b == -1) Fail("an integer does not fit in 64 bits");
    result = op == "//" ? FloorDivide(a, b) : a - FloorDivide(a, b) * b;
  }
  if (overflow) Fail("an integer does not fit in 64 bits");
  return Value(result);
}

Value FloatArithmetic(std::string_view op, double a, double b) {
  if (op == "+") return Value(a + b);
  if (op == "-") return Value(a - b);
  if (op == "*") return Value(a * b);
  if (op == "**") return Value(std::pow(a, b));
  if (b == 0) Fail("float division by zero");
  if (op == "/") return Value(a / b);
  const double quotient = std::floor(a / b);
  if (op == "//") return Value(quotient);
  const double rest = std::fmod(a, b);
  return Value(rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest);
}

// "ab" * 3, [0] * 3
Value Repeat(Render& render, const Value& value, int64_t count) {
  count = std::max<int64_t>(count, 0);
  const size_t size = value.is_string() ? value.text().size() : value.list().items.size();
  if (size != 0 && count > kMaxRepeatedBytes / static_cast<int64_t>(size)) {
    Fail("repeating {} times makes over {} bytes", count, kMaxRepeatedBytes);
  }
  render.CountSteps(static_cast<uint64_t>(count));
  if (value.is_string()) {
    Text text;
    for (int64_t i = 0; i < count; ++i) text.Append(value.text());
    return MakeString(render, std::move(text));
  }
  std::vector<Value> items;
  for (int64_t i = 0; i < count; ++i) {
    items.insert(items.end(), value.list().items.begin(), value.list().items.end());
  }
  return MakeList(render, std::move(items), value.is_tuple());
}

Value Add(Render& render, const Value& left, const Value& right) {
  if (left.is_string() && right.is_string()) {
    Text text = left.text();
    text.Append(right.text());
    return MakeString(render, std::move(text));
  }
  if (left.is_list() && right.is_list() && left.is_tuple() == right.is_tuple()) {
    std::vector<Value> items = left.list().items;
    items.insert(items.end(), right.list().items.begin(), right.list().items.end());
    return MakeList(render, std::move(items), left.is_tuple());
  }
  if (left.is_string()) {
    Fail("can only concatenate str (not \"{}\") to str", TypeName(right));
  }
  if (left.is_list()) {
    Fail("can only concatenate {0} (not \"{1}\") to {0}", TypeName(left), TypeName(right));
  }
  Unsupported("+", left, right);
}

// Where an index from the end, or past it, lies.
int64_t ClampIndex(int64_t index, int64_t size, int64_t low, int64_t high) {
  if (index < 0) index += size;
  return std::clamp(index, low, high);
}

struct SliceRange {
  int64_t start, stop, step;
};

SliceRange ResolveSlice(const Value* start, const Value* stop, const Value* step, int64_t size) {
  const auto given = [](const Value* bound) { return bound != nullptr && !bound->is_none(); };
  SliceRange range{};
  range.step = given(step) ? RequireInteger(*step, "slice step") : 1;
  if (range.step == 0) Fail("slice step cannot be zero");
  const bool forward = range.step > 0;
  const int64_t low = forward ? 0 : -1;
  const int64_t high = forward ? size : size - 1;
  range.start = given(start) ? ClampIndex(RequireInteger(*start, "slice index"), size, low, high)
                             : (forward ? 0 : size - 1);
  range.stop = given(stop) ? ClampIndex(RequireInteger(*stop, "slice index"), size, low, high)
                           : (forward ? size : -1);
  return range;
}

template <class Visit>
void ForEachIndex(const SliceRange& range, Visit visit) {
  for (int64_t i = range.start; range.step > 0 ? i < range.stop : i > range.stop;) {
    visit(static_cast<size_t>(i));
    if (__builtin_add_overflow(i, range.step, &i)) return;
  }
}

Value SliceOfString(Render& render, const Text& text, const Value* start, const Value* stop,
                    const Value* step) {
  render.CountSteps(text.size() / 64);
  const auto num_chars = static_cast<int64_t>(NumChars(text.bytes()));
  const SliceRange range = ResolveSlice(start, stop, step, num_chars);
  if (range.step == 1) {
    if (range.start >= range.stop) return Value(Text());
    const size_t begin = OffsetOf(text.bytes(), static_cast<size_t>(range.start));
    const size_t length = OffsetOf(std::string_view(text.bytes()).substr(begin),
                                   static_cast<size_t>(range.stop - range.start));
    return MakeString(render, text.Slice(begin, begin + length));
  }
  std::vector<size_t> offsets;
  for (size_t i = 0; i < text.size(); i += OffsetOf(std::string_view(text.bytes()).substr(i), 1)) {
    offsets.push_back(i);
  }
  offsets.push_back(text.size());
  render.CountSteps(offsets.size());
  Text slice;
  ForEachIndex(range, [&](size_t i) { slice.Append(text.Slice(offsets[i], offsets[i + 1])); });
  return MakeString(render, std::move(slice));
}

Value NotThere(const Value& object, const std::string& name) {
  return Value::OfUndefined(
      fmt::format("'{} object' has no attribute '{}'", TypeName(object), name));
}

Value ItemAt(Render& render, const Value& object, int64_t index) {
  if (object.is_list()) {
    const auto size = static_cast<int64_t>(object.list().items.size());
    if (index < 0) index += size;
    if (index >= 0 && index < size) return object.list().items[static_cast<size_t>(index)];
  } else {
    const Text& text = object.text();
    render.CountSteps(text.size() / 64);
    const auto size = static_cast<int64_t>(NumChars(text.bytes()));
    if (index < 0) index += size;
    if (index >= 0 && index < size) {
      const size_t begin = OffsetOf(text.bytes(), static_cast<size_t>(index));
      const size_t end = begin + OffsetOf(std::string_view(text.bytes()).substr(begin), 1);
      return MakeString(render, text.Slice(begin, end));
    }
  }
  return Value::OfUndefined(fmt::format("{} has no item {}", TypeName(object), index));
}

}  // namespace

Value MakeString(Render& render, Text text) {
  render.CountBytes(text.size());
  return Value(std::move(text));
}

Value MakeList(Render& render, std::vector<Value> items, bool is_tuple) {
  render.CountBytes(items.size() * sizeof(Value));
  render.CountSteps(items.size() / 16);
  return Value::OfList(std::move(items), is_tuple);
}

void RequireDefined(const Value& value) {
  if (value.is_undefined()) Fail("{}", value.undefined().what);
}

int64_t RequireInteger(const Value& value, std::string_view what) {
  RequireDefined(value);
  if (!value.is_integral()) Fail("{} must be an integer, not {}", what, TypeName(value));
  return value.integer();
}

Value Arithmetic(Render& render, std::string_view op, const Value& left, const Value& right) {
  RequireDefined(left);
  if (op == "%" && left.is_string()) return MakeString(render, PercentFormat(left.text(), right));
  RequireDefined(right);
  if (left.is_integral() && right.is_integral()) {
    return IntegerArithmetic(op, left.integer(), right.integer());
  }
  if (left.is_number() && right.is_number()) return FloatArithmetic(op, left.real(), right.real());
  const auto repeats = [](const Value& value) { return value.is_string() || value.is_list(); };
  if (op == "*" && repeats(left) && right.is_integral()) {
    return Repeat(render, left, right.integer());
  }
  if (op == "*" && repeats(right) && left.is_integral()) {
    return Repeat(render, right, left.integer());
  }
  if (op == "+") return Add(render, left, right);
  Unsupported(op, left, right);
}

bool Contains(Render& render, const Value& container, const Value& item) {
  switch (container.kind()) {
    case Value::Kind::kUndefined:
      return false;
    case Value::Kind::kString:
      if (!item.is_string()) {
        Fail("'in <string>' requires string as left operand, not {}", TypeName(item));
      }
      render.CountSteps(container.text().size() / 64);
      return container.bytes().find(item.bytes()) != std::string::npos;
    case Value::Kind::kDict:
      if (!IsHashable(item)) Fail("unhashable type: '{}'", TypeName(item));
      return container.dict().Find(item) != nullptr;
    case Value::Kind::kList: {
      const auto& items = container.list().items;
      render.CountSteps(items.size());
      return std::any_of(items.begin(), items.end(),
                         [&](const Value& known) { return Equal(known, item); });
    }
    default:
      Fail("argument of type '{}' is not iterable", TypeName(container));
  }
}

bool Compare(Render& render, std::string_view op, const Value& left, const Value& right) {
  if (op == "in") return Contains(render, right, left);
  if (op == "not in") return !Contains(render, right, left);
  if (op == "==") return Equal(left, right);
  if (op == "!=") return !Equal(left, right);
  RequireDefined(left);
  RequireDefined(right);
  const auto order = Order(left, right);
  if (!order) {
    Fail("'{}' not supported between instances of '{}' and '{}'", op, TypeName(left),
         TypeName(right));
  }
  if (op == "<") return *order < 0;
  if (op == "<=") return *order <= 0;
  return op == ">" ? *order > 0 : *order >= 0;
}

Value GetAttribute(Render& render, const Value& object, const std::string& name) {
  RequireDefined(object);
  if (object.is_object()) {
    const auto found = object.object().GetAttribute(name);
    return found ? *found : NotThere(object, name);
  }
  if (HasMethod(object, name)) return Value(&BindMethod(render, object, name));
  if (object.is_dict()) {
    if (const Value* value = object.dict().Find(name)) return *value;
  }
  return NotThere(object, name);
}

Value GetItem(Render& render, const Value& object, const Value& index) {
  RequireDefined(object);
  RequireDefined(index);
  if (object.is_dict() && IsHashable(index)) {
    if (const Value* value = object.dict().Find(index)) return *value;
  }
  if ((object.is_list() || object.is_string()) && index.is_integral()) {
    return ItemAt(render, object, index.integer());
  }
  if (index.is_string()) {
    if (object.is_object()) return GetAttribute(render, object, index.bytes());
    if (HasMethod(object, index.bytes())) return Value(&BindMethod(render, object, index.bytes()));
    return NotThere(object, index.bytes());
  }
  return Value::OfUndefined(fmt::format("{} has no item {}", TypeName(object), Repr(index)));
}

Value GetSlice(Render& render, const Value& object, const Value* start, const Value* stop,
               const Value* step) {
  RequireDefined(object);
  if (object.is_string()) return SliceOfString(render, object.text(), start, stop, step);
  if (!object.is_list()) {
    return Value::OfUndefined(fmt::format("'{}' object cannot be sliced", TypeName(object)));
  }
  const auto& items = object.list().items;
  const SliceRange range = ResolveSlice(start, stop, step, static_cast<int64_t>(items.size()));
  std::vector<Value> slice;
  ForEachIndex(range, [&](size_t i) { slice.push_back(items[i]); });
  return MakeList(render, std::move(slice), object.is_tuple());
}

std::vector<Value> ItemsOf(Render& render, const Value& iterable) {
  std::vector<Value> items;
  switch (iterable.kind()) {
    case Value::Kind::kUndefined:
      return items;
    case Value::Kind::kList:
      items = iterable.list().items;
      break;
    case Value::Kind::kDict:
      for (const auto& [key, value] : iterable.dict().entries()) items.push_back(key);
      break;
    case Value::Kind::kString: {
      const Text& text = iterable.text();
      render.CountBytes(text.size() * sizeof(Value));
      for (size_t i = 0; i < text.size();) {
        const size_t end = i + OffsetOf(std::string_view(text.bytes()).substr(i), 1);
        items.emplace_back(text.Slice(i, end));
        i = end;
      }
      break;
    }
    default:
      Fail("'{}' object is not iterable", TypeName(iterable));
  }
  render.CountBytes(items.size() * sizeof(Value));
  return items;
}

}  // namespace kvs::jinja
