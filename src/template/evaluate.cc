// What the nodes of expressions compute.
#include <fmt/format.h>

#include "template/ast.h"
#include "template/builtins.h"
#include "template/error.h"
#include "template/operators.h"
#include "template/print.h"
#include "template/render.h"

namespace kvs::jinja {

Value Constant::Evaluate(Render&) const { return value; }

Value Name::Evaluate(Render& render) const { return render.Lookup(name); }

Value ListLiteral::Evaluate(Render& render) const {
  std::vector<Value> values;
  for (const ExpressionPtr& item : items) values.push_back(render.Evaluate(*item));
  return MakeList(render, std::move(values), is_tuple);
}

Value DictLiteral::Evaluate(Render& render) const {
  Dict dict;
  for (const auto& [key, value] : entries) {
    Value name = render.Evaluate(*key);
    if (!IsHashable(name)) Fail("unhashable type: '{}'", TypeName(name));
    dict.Set(std::move(name), render.Evaluate(*value));
  }
  render.CountBytes(dict.size() * 2 * sizeof(Value));
  return Value::OfDict(std::move(dict));
}

Value Unary::Evaluate(Render& render) const {
  const Value value = render.Evaluate(*operand);
  if (op == Op::kNot) return Value(!IsTrue(value));
  render.set_line(line);
  RequireDefined(value);
  if (!value.is_number()) {
    Fail("bad operand type for unary {}: '{}'", op == Op::kMinus ? '-' : '+', TypeName(value));
  }
  const Value zero(int64_t{0});
  if (!value.is_integral()) return Value(op == Op::kMinus ? -value.real() : value.real());
  return Arithmetic(render, op == Op::kMinus ? "-" : "+", zero, value);
}

Value Binary::Evaluate(Render& render) const {
  const Value a = render.Evaluate(*left);
  const Value b = render.Evaluate(*right);
  render.set_line(line);
  return Arithmetic(render, op, a, b);
}

Value Logical::Evaluate(Render& render) const {
  Value value;
  for (const ExpressionPtr& operand : operands) {
    value = render.Evaluate(*operand);
    if (IsTrue(value) != is_and) break;
  }
  return value;
}

Value Comparison::Evaluate(Render& render) const {
  Value a = render.Evaluate(*first);
  for (const auto& [op, operand] : others) {
    Value b = render.Evaluate(*operand);
    render.set_line(line);
    if (!Compare(render, op, a, b)) return Value(false);
    a = std::move(b);
  }
  return Value(true);
}

Value Concat::Evaluate(Render& render) const {
  Text text;
  for (const ExpressionPtr& part : parts) text.Append(Str(render.Evaluate(*part)));
  return MakeString(render, std::move(text));
}

Value Conditional::Evaluate(Render& render) const {
  if (IsTrue(render.Evaluate(*condition))) return render.Evaluate(*then);
  if (otherwise != nullptr) return render.Evaluate(*otherwise);
  return Value::OfUndefined("an inline if whose condition is false has no else");
}

Value Attribute::Evaluate(Render& render) const {
  const Value value = render.Evaluate(*object);
  render.set_line(line);
  return GetAttribute(render, value, name);
}

Value Subscript::Evaluate(Render& render) const {
  const Value value = render.Evaluate(*object);
  const Value at = render.Evaluate(*index);
  render.set_line(line);
  return GetItem(render, value, at);
}

Value Slice::Evaluate(Render& render) const {
  const Value value = render.Evaluate(*object);
  const auto bound = [&](const ExpressionPtr& given) {
    return given != nullptr ? render.Evaluate(*given) : Value();  // None is "absent"
  };
  const Value from = bound(start);
  const Value to = bound(stop);
  const Value by = bound(step);
  render.set_line(line);
  return GetSlice(render, value, &from, &to, &by);
}

Arguments CallArguments::Evaluate(Render& render) const {
  Arguments arguments;
  for (const ExpressionPtr& value : positional) {
    arguments.positional.push_back(render.Evaluate(*value));
  }
  for (const auto& [name, value] : named) {
    arguments.named.emplace_back(name, render.Evaluate(*value));
  }
  if (more_positional != nullptr) {
    for (Value& value : ItemsOf(render, render.Evaluate(*more_positional))) {
      arguments.positional.push_back(std::move(value));
    }
  }
  if (more_named == nullptr) return arguments;
  const Value mapping = render.Evaluate(*more_named);
  if (!mapping.is_dict()) Fail("argument after ** must be a mapping, not {}", TypeName(mapping));
  for (const auto& [key, value] : mapping.dict().entries()) {
    if (!key.is_string()) Fail("keywords must be strings");
    arguments.named.emplace_back(key.bytes(), value);
  }
  return arguments;
}

Value Call::Evaluate(Render& render) const {
  // A method is called without being made into a value first.
  if (const auto* method = dynamic_cast<const Attribute*>(callee.get())) {
    const Value object = render.Evaluate(*method->object);
    RequireDefined(object);
    if (!object.is_object() && HasMethod(object, method->name)) {
      Arguments values = arguments.Evaluate(render);
      render.set_line(line);
      return CallMethod(render, object, method->name, std::move(values));
    }
    const Value function = GetAttribute(render, object, method->name);
    Arguments values = arguments.Evaluate(render);
    render.set_line(line);
    return CallValue(render, function, std::move(values));
  }
  const Value function = render.Evaluate(*callee);
  Arguments values = arguments.Evaluate(render);
  render.set_line(line);
  return CallValue(render, function, std::move(values));
}

Value FilterCall::Evaluate(Render& render) const {
  const Value value = input != nullptr ? render.Evaluate(*input) : *render.scope().Find("");
  Arguments values = arguments.Evaluate(render);
  render.set_line(line);
  return ApplyFilter(render, filter, value, std::move(values));
}

Value TestCall::Evaluate(Render& render) const {
  const Value value = render.Evaluate(*input);
  const Arguments values = arguments.Evaluate(render);
  render.set_line(line);
  return Value(ApplyTest(render, test, value, values) != negated);
}

}  // namespace kvs::jinja
