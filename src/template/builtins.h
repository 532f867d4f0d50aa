// What templates find without defining it: filters, tests, functions, and the methods of strings,
// lists and dicts. A name that is missing here is refused when the template is parsed.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "template/arguments.h"
#include "template/render.h"

namespace kvs::jinja {

struct Filter {
  std::string_view name;
  Signature signature;
  Value (*apply)(Render& render, const Value& input, const BoundArguments& arguments);
  // Instead of `apply`: takes whatever it is given (map, select, ...).
  Value (*apply_any)(Render& render, const Value& input, Arguments arguments) = nullptr;
};

struct Test {
  std::string_view name;
  size_t num_arguments;
  // `argument`: null without one.
  bool (*apply)(Render& render, const Value& input, const Value* argument);
};

// Null when there is none.
const Filter* FindFilter(std::string_view name);
const Test* FindTest(std::string_view name);
Object* FindFunction(std::string_view name);

// Throw TemplateError.
Value ApplyFilter(Render& render, const Filter& filter, const Value& input, Arguments arguments);
bool ApplyTest(Render& render, const Test& test, const Value& input, const Arguments& arguments);
Value CallValue(Render& render, const Value& function, Arguments arguments);

bool HasMethod(const Value& object, std::string_view name);
// REQUIRES: HasMethod(object, name).
Value CallMethod(Render& render, const Value& object, std::string_view name, Arguments arguments);
// The method as a value, for a template that names it without calling it.
Object& BindMethod(Render& render, const Value& object, std::string_view name);

// The tables, by what they work on; FindFilter searches them all.
std::span<const Filter> TextFilters();
std::span<const Filter> SequenceFilters();
std::span<const Filter> ValueFilters();

struct StringMethod {
  std::string_view name;
  Signature signature;
  Value (*call)(Render& render, const Text& text, const BoundArguments& arguments);
  Value (*call_any)(Render& render, const Text& text, const Arguments& arguments) = nullptr;
};
std::span<const StringMethod> StringMethods();

}  // namespace kvs::jinja
