// What Python's operators do to values: arithmetic, comparison, membership, access. All throw
// TemplateError where Python raises.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "template/render.h"

namespace kvs::jinja {

Value Arithmetic(Render& render, std::string_view op, const Value& left, const Value& right);
// op: == != < <= > >= in "not in"
bool Compare(Render& render, std::string_view op, const Value& left, const Value& right);
bool Contains(Render& render, const Value& container, const Value& item);

// object.name: an attribute or method first, then a key; object[index]: the other way round.
// Undefined when there is neither; TemplateError when `object` is undefined.
Value GetAttribute(Render& render, const Value& object, const std::string& name);
Value GetItem(Render& render, const Value& object, const Value& index);
// Null bounds are absent.
Value GetSlice(Render& render, const Value& object, const Value* start, const Value* stop,
               const Value* step);

// The items a `for` sees: of a list, the keys of a dict, the characters of a string, none of an
// undefined value.
std::vector<Value> ItemsOf(Render& render, const Value& iterable);
// Throws what jinja2 says of an undefined value that is used for more than printing.
void RequireDefined(const Value& value);
// An int argument; `what` names it in the message.
int64_t RequireInteger(const Value& value, std::string_view what);

// Counted like everything that a template makes.
Value MakeString(Render& render, Text text);
Value MakeList(Render& render, std::vector<Value> items, bool is_tuple = false);

}  // namespace kvs::jinja
