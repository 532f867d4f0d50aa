// The syntax tree of a template. Nodes are immutable once parsed, so that one tree serves many
// renders at a time; what a render changes is in Render.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "template/object.h"
#include "template/value.h"

namespace kvs::jinja {

class Render;
struct Filter;  // template/builtins.h
struct Test;

// Every node is evaluated through Render::Evaluate and Render::Execute, which count steps.
struct Expression {
  explicit Expression(uint32_t at_line) : line(at_line) {}
  virtual ~Expression() = default;
  virtual Value Evaluate(Render& render) const = 0;

  const uint32_t line;
};
using ExpressionPtr = std::unique_ptr<const Expression>;

enum class Flow : uint8_t { kNext, kBreak, kContinue };

struct Statement {
  explicit Statement(uint32_t at_line) : line(at_line) {}
  virtual ~Statement() = default;
  virtual Flow Execute(Render& render) const = 0;

  const uint32_t line;
};
using Block = std::vector<std::unique_ptr<const Statement>>;

// --- Expressions ---

struct Constant final : Expression {
  Constant(uint32_t at, Value v) : Expression(at), value(std::move(v)) {}
  Value Evaluate(Render& render) const override;
  Value value;
};

struct Name final : Expression {
  Name(uint32_t at, std::string n) : Expression(at), name(std::move(n)) {}
  Value Evaluate(Render& render) const override;
  std::string name;
};

struct ListLiteral final : Expression {
  ListLiteral(uint32_t at, bool tuple) : Expression(at), is_tuple(tuple) {}
  Value Evaluate(Render& render) const override;
  std::vector<ExpressionPtr> items;
  bool is_tuple;
};

struct DictLiteral final : Expression {
  using Expression::Expression;
  Value Evaluate(Render& render) const override;
  std::vector<std::pair<ExpressionPtr, ExpressionPtr>> entries;
};

struct Unary final : Expression {
  enum class Op : uint8_t { kNot, kMinus, kPlus };
  Unary(uint32_t at, Op o, ExpressionPtr e) : Expression(at), op(o), operand(std::move(e)) {}
  Value Evaluate(Render& render) const override;
  Op op;
  ExpressionPtr operand;
};

// Arithmetic: + - * / // % **
struct Binary final : Expression {
  Binary(uint32_t at, std::string o, ExpressionPtr l, ExpressionPtr r)
      : Expression(at), op(std::move(o)), left(std::move(l)), right(std::move(r)) {}
  Value Evaluate(Render& render) const override;
  std::string op;
  ExpressionPtr left, right;
};

// and, or: the last operand looked at is the value.
struct Logical final : Expression {
  Logical(uint32_t at, bool a) : Expression(at), is_and(a) {}
  Value Evaluate(Render& render) const override;
  bool is_and;
  std::vector<ExpressionPtr> operands;
};

// a < b <= c; also in, not in.
struct Comparison final : Expression {
  using Expression::Expression;
  Value Evaluate(Render& render) const override;
  ExpressionPtr first;
  std::vector<std::pair<std::string, ExpressionPtr>> others;
};

// a ~ b ~ c
struct Concat final : Expression {
  using Expression::Expression;
  Value Evaluate(Render& render) const override;
  std::vector<ExpressionPtr> parts;
};

struct Conditional final : Expression {
  using Expression::Expression;
  Value Evaluate(Render& render) const override;
  ExpressionPtr condition, then, otherwise;  // otherwise: null without else
};

struct Attribute final : Expression {
  Attribute(uint32_t at, ExpressionPtr o, std::string n)
      : Expression(at), object(std::move(o)), name(std::move(n)) {}
  Value Evaluate(Render& render) const override;
  ExpressionPtr object;
  std::string name;
};

struct Subscript final : Expression {
  Subscript(uint32_t at, ExpressionPtr o, ExpressionPtr i)
      : Expression(at), object(std::move(o)), index(std::move(i)) {}
  Value Evaluate(Render& render) const override;
  ExpressionPtr object, index;
};

struct Slice final : Expression {
  using Expression::Expression;
  Value Evaluate(Render& render) const override;
  ExpressionPtr object, start, stop, step;  // null where left out, but object
};

struct CallArguments {
  Arguments Evaluate(Render& render) const;
  std::vector<ExpressionPtr> positional;
  std::vector<std::pair<std::string, ExpressionPtr>> named;
  ExpressionPtr more_positional;  // *args, or null
  ExpressionPtr more_named;       // **kwargs, or null
};

struct Call final : Expression {
  Call(uint32_t at, ExpressionPtr c) : Expression(at), callee(std::move(c)) {}
  Value Evaluate(Render& render) const override;
  ExpressionPtr callee;
  CallArguments arguments;
};

struct FilterCall final : Expression {
  FilterCall(uint32_t at, const Filter& f) : Expression(at), filter(f) {}
  Value Evaluate(Render& render) const override;
  const Filter& filter;
  ExpressionPtr input;  // null: the text of the {% filter %} or {% set %} block around it
  CallArguments arguments;
};

struct TestCall final : Expression {
  TestCall(uint32_t at, const Test& t) : Expression(at), test(t) {}
  Value Evaluate(Render& render) const override;
  const Test& test;
  ExpressionPtr input;
  CallArguments arguments;
  bool negated = false;
};

// --- Statements ---

// What is assigned to: a name, an attribute of a namespace, or a tuple of targets.
struct Target {
  void Assign(Render& render, const Value& value) const;
  std::string name;
  std::string attribute;
  std::vector<Target> parts;  // not empty: a tuple
};

struct TextOutput final : Statement {
  TextOutput(uint32_t at, std::string t) : Statement(at), text(std::move(t), Origin::kTemplate) {}
  Flow Execute(Render& render) const override;
  Text text;
};

struct ValueOutput final : Statement {
  ValueOutput(uint32_t at, ExpressionPtr v) : Statement(at), value(std::move(v)) {}
  Flow Execute(Render& render) const override;
  ExpressionPtr value;
};

struct If final : Statement {
  using Statement::Statement;
  Flow Execute(Render& render) const override;
  std::vector<std::pair<ExpressionPtr, Block>> branches;
  Block otherwise;
};

struct For final : Statement {
  using Statement::Statement;
  Flow Execute(Render& render) const override;
  Target target;
  ExpressionPtr iterable;
  ExpressionPtr condition;  // null: every item
  Block body;
  Block otherwise;
  bool uses_loop = false;  // the body names `loop`

 private:
  std::vector<Value> Items(Render& render) const;
};

struct Set final : Statement {
  using Statement::Statement;
  Flow Execute(Render& render) const override;
  Target target;
  ExpressionPtr value;  // null: the body's text is the value
  Block body;
  ExpressionPtr filter;  // with a body: what its text goes through, or null
};

// {% with %}; {% filter %} when `filter` is not null; {% generation %} with neither.
struct Scoped final : Statement {
  using Statement::Statement;
  Flow Execute(Render& render) const override;
  std::vector<std::pair<Target, ExpressionPtr>> bindings;
  ExpressionPtr filter;
  Block body;
};

struct Parameter {
  std::string name;
  ExpressionPtr default_value;  // null: undefined when not given
};

struct MacroDefinition final : Statement {
  using Statement::Statement;
  Flow Execute(Render& render) const override;
  std::string name;  // empty: the body of a {% call %}
  std::vector<Parameter> parameters;
  Block body;
  bool uses_caller = false;
  bool uses_varargs = false;
  bool uses_kwargs = false;
};

struct CallBlock final : Statement {
  using Statement::Statement;
  Flow Execute(Render& render) const override;
  std::unique_ptr<const Call> call;
  std::unique_ptr<const MacroDefinition> body;
};

struct Jump final : Statement {
  Jump(uint32_t at, Flow f) : Statement(at), flow(f) {}
  Flow Execute(Render&) const override { return flow; }
  Flow flow;
};

}  // namespace kvs::jinja
