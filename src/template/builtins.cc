#include "template/builtins.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <ctime>

#include "template/characters.h"
#include "template/error.h"
#include "template/operators.h"
#include "template/print.h"

namespace kvs::jinja {
namespace {

constexpr int64_t kMaxRange = 100'000;  // as jinja2's sandbox

// A function of the engine itself, shared by all renders: it holds no state.
class Function final : public Object {
 public:
  using Body = Value (*)(Render&, Arguments);
  explicit constexpr Function(Body body) : body_(body) {}
  std::string type_name() const override { return "function"; }
  bool is_callable() const override { return true; }
  Value Call(Render& render, Arguments arguments) override {
    return body_(render, std::move(arguments));
  }

 private:
  const Body body_;
};

Value Range(Render& render, Arguments arguments) {
  const BoundArguments bound("range", {"start stop step", 1}, std::move(arguments));
  const bool one = !bound.Has(1);
  const int64_t start = one ? 0 : bound.Integer(0, 0);
  const int64_t stop = bound.Integer(one ? 0 : 1, 0);
  const int64_t step = bound.Integer(2, 1);
  if (step == 0) Fail("range() arg 3 must not be zero");
  std::vector<Value> numbers;
  for (int64_t i = start; step > 0 ? i < stop : i > stop;) {
    if (static_cast<int64_t>(numbers.size()) == kMaxRange) {
      Fail("range too big: at most {} numbers", kMaxRange);
    }
    numbers.emplace_back(i);
    if (__builtin_add_overflow(i, step, &i)) break;
  }
  return MakeList(render, std::move(numbers));
}

Dict DictOf(Render& render, std::string_view owner, Arguments arguments) {
  if (arguments.positional.size() > 1) Fail("{}() takes at most 1 positional argument", owner);
  Dict dict;
  if (!arguments.positional.empty()) {
    const Value& source = arguments.positional[0];
    if (source.is_dict()) {
      dict = source.dict();
    } else {
      for (const Value& pair : ItemsOf(render, source)) {
        if (!pair.is_list() || pair.list().items.size() != 2 || !IsHashable(pair.list().items[0])) {
          Fail("{}() takes a dict or a list of pairs", owner);
        }
        dict.Set(pair.list().items[0], pair.list().items[1]);
      }
    }
  }
  for (auto& [name, value] : arguments.named) {
    dict.Set(Value::String(std::move(name), Origin::kTemplate), std::move(value));
  }
  render.CountBytes(dict.size() * 2 * sizeof(Value));
  return dict;
}

Value MakeDict(Render& render, Arguments arguments) {
  return Value::OfDict(DictOf(render, "dict", std::move(arguments)));
}

Value MakeNamespace(Render& render, Arguments arguments) {
  const Dict dict = DictOf(render, "namespace", std::move(arguments));
  auto& space = render.Make<Namespace>();
  for (const auto& [name, value] : dict.entries()) {
    if (!name.is_string()) Fail("namespace() takes names, not {}", TypeName(name));
    space.Set(name.bytes(), value);
  }
  return Value(&space);
}

Value RaiseException(Render&, Arguments arguments) {
  const BoundArguments bound("raise_exception", {"message", 1}, std::move(arguments));
  throw TemplateError{Str(bound[0]).bytes(), TemplateError::Cause::kRaised};
}

Value StrftimeNow(Render& render, Arguments arguments) {
  const BoundArguments bound("strftime_now", {"format", 1}, std::move(arguments));
  const std::string& format = bound.String(0).bytes();
  constexpr size_t kMaxFormatBytes = 256;
  if (format.size() > kMaxFormatBytes) Fail("strftime_now(): the format is too long");
  if (format.empty()) return Value(Text());
  std::tm local{};
  const std::time_t now = render.inputs().now;
  localtime_r(&now, &local);
  std::array<char, 4096> buffer;
  const size_t size = std::strftime(buffer.data(), buffer.size(), format.c_str(), &local);
  return MakeString(render, Text(std::string(buffer.data(), size), bound.String(0).origin()));
}

template <class Table>
auto FindNamed(const Table& table, std::string_view name) -> decltype(table.data()) {
  const auto found = std::find_if(table.begin(), table.end(),
                                  [name](const auto& entry) { return entry.name == name; });
  return found == table.end() ? nullptr : &*found;
}

// --- Methods of lists and dicts ---

struct ContainerMethod {
  std::string_view name;
  Signature signature;
  Value (*call)(Render& render, const Value& object, const BoundArguments& arguments);
};

Value Get(Render&, const Value& object, const BoundArguments& arguments) {
  if (!IsHashable(arguments[0])) Fail("unhashable type: '{}'", TypeName(arguments[0]));
  if (const Value* value = object.dict().Find(arguments[0])) return *value;
  return arguments.Has(1) ? arguments[1] : Value();
}

Value Items(Render& render, const Value& object, const BoundArguments&) {
  std::vector<Value> pairs;
  for (const auto& [key, value] : object.dict().entries()) {
    pairs.push_back(MakeList(render, {key, value}, /*is_tuple=*/true));
  }
  return MakeList(render, std::move(pairs));
}

Value Keys(Render& render, const Value& object, const BoundArguments&) {
  return MakeList(render, ItemsOf(render, object));
}

Value Values(Render& render, const Value& object, const BoundArguments&) {
  std::vector<Value> values;
  for (const auto& entry : object.dict().entries()) values.push_back(entry.second);
  return MakeList(render, std::move(values));
}

Value Copy(Render&, const Value& object, const BoundArguments&) { return object; }

Value CountItem(Render& render, const Value& object, const BoundArguments& arguments) {
  const auto& items = object.list().items;
  render.CountSteps(items.size());
  return Value(static_cast<int64_t>(std::count_if(
      items.begin(), items.end(), [&](const Value& item) { return Equal(item, arguments[0]); })));
}

Value IndexOfItem(Render& render, const Value& object, const BoundArguments& arguments) {
  const auto& items = object.list().items;
  render.CountSteps(items.size());
  for (size_t i = 0; i < items.size(); ++i) {
    if (Equal(items[i], arguments[0])) return Value(static_cast<int64_t>(i));
  }
  Fail("{} is not in list", Repr(arguments[0]));
}

constexpr std::array<ContainerMethod, 5> kDictMethods = {{{"get", {"key default", 1}, Get},
                                                          {"items", {}, Items},
                                                          {"keys", {}, Keys},
                                                          {"values", {}, Values},
                                                          {"copy", {}, Copy}}};
constexpr std::array<ContainerMethod, 3> kListMethods = {
    {{"index", {"value", 1}, IndexOfItem}, {"count", {"value", 1}, CountItem}, {"copy", {}, Copy}}};

const ContainerMethod* FindContainerMethod(const Value& object, std::string_view name) {
  if (object.is_dict()) return FindNamed(kDictMethods, name);
  return object.is_list() ? FindNamed(kListMethods, name) : nullptr;
}

class Method final : public Object {
 public:
  Method(Value object, std::string name) : object_(std::move(object)), name_(std::move(name)) {}
  std::string type_name() const override { return "builtin_function_or_method"; }
  bool is_callable() const override { return true; }
  Value Call(Render& render, Arguments arguments) override {
    return CallMethod(render, object_, name_, std::move(arguments));
  }

 private:
  const Value object_;
  const std::string name_;
};

}  // namespace

Object* FindFunction(std::string_view name) {
  static Function range(Range), dict(MakeDict), space(MakeNamespace), raise(RaiseException),
      strftime(StrftimeNow);
  if (name == "range") return &range;
  if (name == "dict") return &dict;
  if (name == "namespace") return &space;
  if (name == "raise_exception") return &raise;
  return name == "strftime_now" ? &strftime : nullptr;
}

const Filter* FindFilter(std::string_view name) {
  for (const auto table : {TextFilters(), SequenceFilters(), ValueFilters()}) {
    if (const Filter* filter = FindNamed(table, name)) return filter;
  }
  return nullptr;
}

Value ApplyFilter(Render& render, const Filter& filter, const Value& input, Arguments arguments) {
  if (input.is_string()) render.CountSteps(input.text().size() / 64);
  if (filter.apply_any != nullptr) return filter.apply_any(render, input, std::move(arguments));
  return filter.apply(render, input,
                      BoundArguments(filter.name, filter.signature, std::move(arguments)));
}

Value CallValue(Render& render, const Value& function, Arguments arguments) {
  RequireDefined(function);
  if (!function.is_object()) Fail("'{}' object is not callable", TypeName(function));
  const Render::Level level(render);
  return function.object().Call(render, std::move(arguments));
}

bool HasMethod(const Value& object, std::string_view name) {
  if (object.is_string()) return FindNamed(StringMethods(), name) != nullptr;
  return FindContainerMethod(object, name) != nullptr;
}

Value CallMethod(Render& render, const Value& object, std::string_view name, Arguments arguments) {
  if (!object.is_string()) {
    const ContainerMethod& method = *FindContainerMethod(object, name);
    const size_t size = object.is_dict() ? object.dict().size() : object.list().items.size();
    render.CountSteps(size / 16);
    return method.call(render, object,
                       BoundArguments(name, method.signature, std::move(arguments)));
  }
  const StringMethod& method = *FindNamed(StringMethods(), name);
  render.CountSteps(object.text().size() / 64);
  if (method.call_any != nullptr) {
    return method.call_any(render, object.text(), arguments);
  }
  return method.call(render, object.text(),
                     BoundArguments(name, method.signature, std::move(arguments)));
}

Object& BindMethod(Render& render, const Value& object, std::string_view name) {
  return render.Make<Method>(object, std::string(name));
}

}  // namespace kvs::jinja
