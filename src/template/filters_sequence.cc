// Filters of lists and what can be made one.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>

#include "template/builtins.h"
#include "template/characters.h"
#include "template/error.h"
#include "template/operators.h"
#include "template/print.h"

namespace kvs::jinja {
namespace {

// "a.b.0": each part a key, an index, or an attribute.
Value AtPath(Render& render, Value value, const Value& path, const Value* otherwise) {
  if (!path.is_string()) return GetItem(render, value, path);
  const std::string& text = path.bytes();
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find('.', begin), text.size());
    const std::string part = text.substr(begin, end - begin);
    const bool is_index =
        !part.empty() && part.size() < 10 &&
        std::all_of(part.begin(), part.end(), [](unsigned char c) { return std::isdigit(c) != 0; });
    value = GetItem(render, value,
                    is_index ? Value(static_cast<int64_t>(std::stol(part)))
                             : Value::String(part, Origin::kTemplate));
    if (value.is_undefined() && otherwise != nullptr) value = *otherwise;
    begin = end + 1;
  }
  return value;
}

// What items are compared by: at `path` where given, in lower case unless case counts.
class Key {
 public:
  Key(Render& render, const BoundArguments& arguments, size_t case_at, size_t path_at)
      : render_(render),
        case_sensitive_(arguments.Truth(case_at, false)),
        path_(arguments.HasValue(path_at) ? arguments[path_at] : Value()) {}

  Value operator()(const Value& item) const {
    const Value value = path_.is_none() ? item : AtPath(render_, item, path_, nullptr);
    return !case_sensitive_ && value.is_string() ? Value(ToLower(value.text())) : value;
  }

 private:
  Render& render_;
  const bool case_sensitive_;
  const Value path_;
};

int OrderOrFail(const Value& a, const Value& b) {
  RequireDefined(a);
  RequireDefined(b);
  const auto order = Order(a, b);
  if (!order) {
    Fail("'<' not supported between instances of '{}' and '{}'", TypeName(a), TypeName(b));
  }
  return *order;
}

// Stable; `key` is called once for each item.
template <class MakeKey>
std::vector<Value> Sorted(Render& render, std::vector<Value> items, bool reverse, MakeKey key) {
  std::vector<std::pair<Value, Value>> keyed;
  for (Value& item : items) {
    Value by = key(item);
    keyed.emplace_back(std::move(by), std::move(item));
  }
  render.CountSteps(keyed.size() * 8);
  // Python keeps equal items in order also when it sorts in reverse.
  std::stable_sort(keyed.begin(), keyed.end(), [reverse](const auto& a, const auto& b) {
    const int order = OrderOrFail(a.first, b.first);
    return reverse ? order > 0 : order < 0;
  });
  items.clear();
  for (auto& [by, item] : keyed) items.push_back(std::move(item));
  return items;
}

Value First(Render& render, const Value& input, const BoundArguments&) {
  const std::vector<Value> items = ItemsOf(render, input);
  return items.empty() ? Value::OfUndefined("No first item, sequence was empty.") : items.front();
}

Value Last(Render& render, const Value& input, const BoundArguments&) {
  const std::vector<Value> items = ItemsOf(render, input);
  return items.empty() ? Value::OfUndefined("No last item, sequence was empty.") : items.back();
}

Value Length(Render&, const Value& input, const BoundArguments&) {
  switch (input.kind()) {
    case Value::Kind::kUndefined:
      return Value(int64_t{0});
    case Value::Kind::kString:
      return Value(static_cast<int64_t>(NumChars(input.bytes())));
    case Value::Kind::kList:
      return Value(static_cast<int64_t>(input.list().items.size()));
    case Value::Kind::kDict:
      return Value(static_cast<int64_t>(input.dict().size()));
    default:
      Fail("object of type '{}' has no len()", TypeName(input));
  }
}

Value ToList(Render& render, const Value& input, const BoundArguments&) {
  return MakeList(render, ItemsOf(render, input));
}

Value Reverse(Render& render, const Value& input, const BoundArguments&) {
  std::vector<Value> items = ItemsOf(render, input);
  std::reverse(items.begin(), items.end());
  if (!input.is_string()) return MakeList(render, std::move(items));
  Text text;
  for (const Value& item : items) text.Append(item.text());
  return MakeString(render, std::move(text));
}

Value Join(Render& render, const Value& input, const BoundArguments& arguments) {
  const Text between = arguments.Has(0) ? Str(arguments[0]) : Text();
  Text text;
  bool first = true;
  for (const Value& item : ItemsOf(render, input)) {
    if (!first) text.Append(between);
    first = false;
    text.Append(Str(arguments.HasValue(1) ? AtPath(render, item, arguments[1], nullptr) : item));
  }
  return MakeString(render, std::move(text));
}

Value Sort(Render& render, const Value& input, const BoundArguments& arguments) {
  const Key key(render, arguments, 1, 2);
  return MakeList(render, Sorted(render, ItemsOf(render, input), arguments.Truth(0, false), key));
}

Value DictSort(Render& render, const Value& input, const BoundArguments& arguments) {
  if (!input.is_dict()) Fail("dictsort takes a dict, not {}", TypeName(input));
  const std::string by = arguments.Has(1) ? arguments.String(1).bytes() : "key";
  if (by != "key" && by != "value") Fail("You can only sort by either \"key\" or \"value\"");
  const bool case_sensitive = arguments.Truth(0, false);
  std::vector<Value> pairs;
  for (const auto& [key, value] : input.dict().entries()) {
    pairs.push_back(MakeList(render, {key, value}, /*is_tuple=*/true));
  }
  const auto key = [&](const Value& pair) {
    const Value& item = pair.list().items[by == "key" ? 0 : 1];
    return !case_sensitive && item.is_string() ? Value(ToLower(item.text())) : item;
  };
  return MakeList(render, Sorted(render, std::move(pairs), arguments.Truth(2, false), key));
}

Value Unique(Render& render, const Value& input, const BoundArguments& arguments) {
  const Key key(render, arguments, 0, 1);
  Dict seen;
  std::vector<Value> kept;
  for (Value& item : ItemsOf(render, input)) {
    Value by = key(item);
    if (!IsHashable(by)) Fail("unhashable type: '{}'", TypeName(by));
    if (seen.Find(by) != nullptr) continue;
    seen.Set(std::move(by), Value());
    kept.push_back(std::move(item));
  }
  return MakeList(render, std::move(kept));
}

Value Extreme(Render& render, const Value& input, const BoundArguments& arguments, int sign) {
  const Key key(render, arguments, 0, 1);
  std::optional<Value> best;
  Value best_key;
  for (Value& item : ItemsOf(render, input)) {
    Value by = key(item);
    if (best && OrderOrFail(by, best_key) * sign <= 0) continue;
    best_key = std::move(by);
    best = std::move(item);
  }
  return best ? *best : Value::OfUndefined("No aggregated item, sequence was empty.");
}

Value Min(Render& render, const Value& input, const BoundArguments& arguments) {
  return Extreme(render, input, arguments, -1);
}

Value Max(Render& render, const Value& input, const BoundArguments& arguments) {
  return Extreme(render, input, arguments, 1);
}

Value Sum(Render& render, const Value& input, const BoundArguments& arguments) {
  Value sum = arguments.Has(1) ? arguments[1] : Value(int64_t{0});
  for (const Value& item : ItemsOf(render, input)) {
    sum = Arithmetic(render, "+", sum,
                     arguments.HasValue(0) ? AtPath(render, item, arguments[0], nullptr) : item);
  }
  return sum;
}

Value Batch(Render& render, const Value& input, const BoundArguments& arguments) {
  const int64_t size = arguments.Integer(0, 1);
  if (size < 1 || size > 100'000) Fail("batch() takes a size from 1 to 100000, got {}", size);
  std::vector<Value> batches;
  std::vector<Value> batch;
  for (Value& item : ItemsOf(render, input)) {
    if (batch.size() == static_cast<size_t>(size)) {
      batches.push_back(MakeList(render, std::exchange(batch, {})));
    }
    batch.push_back(std::move(item));
  }
  if (!batch.empty()) {
    if (arguments.HasValue(1)) batch.resize(static_cast<size_t>(size), arguments[1]);
    batches.push_back(MakeList(render, std::move(batch)));
  }
  return MakeList(render, std::move(batches));
}

Value ItemPairs(Render& render, const Value& input, const BoundArguments&) {
  if (input.is_undefined()) return MakeList(render, {});
  if (!input.is_dict()) Fail("Can only get item pairs from a mapping.");
  return CallMethod(render, input, "items", {});
}

std::string TakeName(Arguments& arguments, std::string_view owner, std::string_view what) {
  if (arguments.positional.empty() || !arguments.positional[0].is_string()) {
    Fail("{}() needs {}", owner, what);
  }
  std::string name = arguments.positional[0].bytes();
  arguments.positional.erase(arguments.positional.begin());
  return name;
}

Value Map(Render& render, const Value& input, Arguments arguments) {
  std::vector<Value> mapped;
  if (arguments.positional.empty()) {
    const BoundArguments bound("map", {"attribute default", 0}, std::move(arguments));
    if (!bound.Has(0)) Fail("map() needs the name of a filter, or attribute=");
    const Value* otherwise = bound.HasValue(1) ? &bound[1] : nullptr;
    for (const Value& item : ItemsOf(render, input)) {
      mapped.push_back(AtPath(render, item, bound[0], otherwise));
    }
    return MakeList(render, std::move(mapped));
  }
  const std::string name = TakeName(arguments, "map", "the name of a filter");
  const Filter* filter = FindFilter(name);
  if (filter == nullptr) Fail("there is no filter '{}'", name);
  const Render::Level level(render);
  for (const Value& item : ItemsOf(render, input)) {
    render.CountSteps(1);
    mapped.push_back(ApplyFilter(render, *filter, item, arguments));
  }
  return MakeList(render, std::move(mapped));
}

Value Select(Render& render, const Value& input, Arguments arguments, bool by_attribute,
             bool wanted) {
  std::string path;
  if (by_attribute) path = TakeName(arguments, "selectattr", "the name of an attribute");
  const Test* test = nullptr;
  if (!arguments.positional.empty()) {
    const std::string name = TakeName(arguments, "select", "the name of a test");
    test = FindTest(name);
    if (test == nullptr) Fail("there is no test '{}'", name);
  }
  const Value path_value = Value::String(std::move(path), Origin::kTemplate);
  std::vector<Value> selected;
  for (Value& item : ItemsOf(render, input)) {
    render.CountSteps(1);
    const Value value = by_attribute ? AtPath(render, item, path_value, nullptr) : item;
    const bool holds = test != nullptr ? ApplyTest(render, *test, value, arguments) : IsTrue(value);
    if (holds == wanted) selected.push_back(std::move(item));
  }
  return MakeList(render, std::move(selected));
}

template <bool kByAttribute, bool kWanted>
Value SelectWith(Render& render, const Value& input, Arguments arguments) {
  return Select(render, input, std::move(arguments), kByAttribute, kWanted);
}

constexpr std::array<Filter, 20> kSequenceFilters = {{
    {"first", {}, First},
    {"last", {}, Last},
    {"length", {}, Length},
    {"count", {}, Length},
    {"list", {}, ToList},
    {"reverse", {}, Reverse},
    {"join", {"d attribute", 0}, Join},
    {"sort", {"reverse case_sensitive attribute", 0}, Sort},
    {"dictsort", {"case_sensitive by reverse", 0}, DictSort},
    {"unique", {"case_sensitive attribute", 0}, Unique},
    {"min", {"case_sensitive attribute", 0}, Min},
    {"max", {"case_sensitive attribute", 0}, Max},
    {"sum", {"attribute start", 0}, Sum},
    {"batch", {"linecount fill_with", 1}, Batch},
    {"items", {}, ItemPairs},
    {"map", {}, nullptr, Map},
    {"select", {}, nullptr, SelectWith<false, true>},
    {"reject", {}, nullptr, SelectWith<false, false>},
    {"selectattr", {}, nullptr, SelectWith<true, true>},
    {"rejectattr", {}, nullptr, SelectWith<true, false>},
}};

}  // namespace

std::span<const Filter> SequenceFilters() { return kSequenceFilters; }

}  // namespace kvs::jinja
