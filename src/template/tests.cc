// The tests of `is`.
#include <algorithm>
#include <array>

#include "template/builtins.h"
#include "template/characters.h"
#include "template/error.h"
#include "template/operators.h"
#include "template/print.h"

namespace kvs::jinja {
namespace {

int64_t Remainder(Render& render, const Value& value, int64_t divisor) {
  const Value rest = Arithmetic(render, "%", value, Value(divisor));
  return rest.is_integral() ? rest.integer() : rest.real() == 0 ? 0 : 1;
}

// All cased characters are of the wanted case, and there is one.
bool AllInCase(const Value& value, bool upper) {
  bool some = false;
  for (const uint32_t c : CodePoints(Str(value).bytes())) {
    if (upper ? IsLower(c) : IsUpper(c)) return false;
    some = some || (upper ? IsUpper(c) : IsLower(c));
  }
  return some;
}

bool IsSequence(const Value& value) {
  return value.is_string() || value.is_list() || value.is_dict() || value.is_undefined();
}

template <char kFirst, char kSecond = '\0'>
bool Compared(Render& render, const Value& value, const Value* other) {
  constexpr char kOp[] = {kFirst, kSecond, '\0'};
  return Compare(render, kOp, value, *other);
}

constexpr std::array<Test, 38> kTests = {{
    {"defined", 0, [](Render&, const Value& v, const Value*) { return !v.is_undefined(); }},
    {"undefined", 0, [](Render&, const Value& v, const Value*) { return v.is_undefined(); }},
    {"none", 0, [](Render&, const Value& v, const Value*) { return v.is_none(); }},
    {"boolean", 0, [](Render&, const Value& v, const Value*) { return v.is_bool(); }},
    {"true", 0, [](Render&, const Value& v, const Value*) { return v.is_bool() && v.boolean(); }},
    {"false", 0, [](Render&, const Value& v, const Value*) { return v.is_bool() && !v.boolean(); }},
    {"integer", 0,
     [](Render&, const Value& v, const Value*) { return v.kind() == Value::Kind::kInt; }},
    {"float", 0,
     [](Render&, const Value& v, const Value*) { return v.kind() == Value::Kind::kFloat; }},
    {"number", 0, [](Render&, const Value& v, const Value*) { return v.is_number(); }},
    {"string", 0, [](Render&, const Value& v, const Value*) { return v.is_string(); }},
    {"mapping", 0, [](Render&, const Value& v, const Value*) { return v.is_dict(); }},
    {"sequence", 0, [](Render&, const Value& v, const Value*) { return IsSequence(v); }},
    {"iterable", 0, [](Render&, const Value& v, const Value*) { return IsSequence(v); }},
    {"callable", 0,
     [](Render&, const Value& v, const Value*) {
       return v.is_object() && v.object().is_callable();
     }},
    {"escaped", 0, [](Render&, const Value&, const Value*) { return false; }},
    {"lower", 0, [](Render&, const Value& v, const Value*) { return AllInCase(v, false); }},
    {"upper", 0, [](Render&, const Value& v, const Value*) { return AllInCase(v, true); }},
    {"odd", 0, [](Render& r, const Value& v, const Value*) { return Remainder(r, v, 2) == 1; }},
    {"even", 0, [](Render& r, const Value& v, const Value*) { return Remainder(r, v, 2) == 0; }},
    {"divisibleby", 1,
     [](Render& r, const Value& v, const Value* by) {
       return Remainder(r, v, RequireInteger(*by, "divisibleby")) == 0;
     }},
    {"sameas", 1, [](Render&, const Value& v, const Value* other) { return v.Same(*other); }},
    {"in", 1, [](Render& r, const Value& v, const Value* all) { return Contains(r, *all, v); }},
    {"eq", 1, Compared<'=', '='>},
    {"equalto", 1, Compared<'=', '='>},
    {"==", 1, Compared<'=', '='>},
    {"ne", 1, Compared<'!', '='>},
    {"!=", 1, Compared<'!', '='>},
    {"lt", 1, Compared<'<'>},
    {"lessthan", 1, Compared<'<'>},
    {"<", 1, Compared<'<'>},
    {"le", 1, Compared<'<', '='>},
    {"<=", 1, Compared<'<', '='>},
    {"gt", 1, Compared<'>'>},
    {"greaterthan", 1, Compared<'>'>},
    {">", 1, Compared<'>'>},
    {"ge", 1, Compared<'>', '='>},
    {">=", 1, Compared<'>', '='>},
    {"filter", 0,
     [](Render&, const Value& v, const Value*) {
       return v.is_string() && FindFilter(v.bytes()) != nullptr;
     }},
}};

}  // namespace

const Test* FindTest(std::string_view name) {
  const auto found = std::find_if(kTests.begin(), kTests.end(),
                                  [name](const Test& test) { return test.name == name; });
  return found == kTests.end() ? nullptr : &*found;
}

bool ApplyTest(Render& render, const Test& test, const Value& input, const Arguments& arguments) {
  if (arguments.positional.size() != test.num_arguments || !arguments.named.empty()) {
    Fail("the test '{}' takes {} argument(s)", test.name, test.num_arguments);
  }
  return test.apply(render, input, test.num_arguments > 0 ? &arguments.positional[0] : nullptr);
}

}  // namespace kvs::jinja
