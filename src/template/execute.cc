// What the statements do, and the objects they make.
#include <fmt/format.h>

#include "template/ast.h"
#include "template/error.h"
#include "template/operators.h"
#include "template/print.h"
#include "template/render.h"

namespace kvs::jinja {
namespace {

// `loop` inside of a for.
class Loop final : public Object {
 public:
  explicit Loop(std::vector<Value> items) : items_(std::move(items)) {}

  std::string type_name() const override { return "LoopContext"; }
  std::optional<Value> GetAttribute(std::string_view name) override;

  size_t size() const { return items_.size(); }
  const Value& Enter(size_t index) {
    index_ = index;
    return items_[index];
  }

 private:
  // loop.cycle(...), loop.changed(...)
  class Method final : public Object {
   public:
    Method(Loop& loop, bool cycles) : loop_(loop), cycles_(cycles) {}
    std::string type_name() const override { return "method"; }
    bool is_callable() const override { return true; }
    Value Call(Render& render, Arguments arguments) override;

   private:
    Loop& loop_;
    const bool cycles_;
  };

  const std::vector<Value> items_;
  size_t index_ = 0;
  std::optional<Value> last_changed_;
  Method cycle_{*this, true};
  Method changed_{*this, false};
};

std::optional<Value> Loop::GetAttribute(std::string_view name) {
  const auto number = [](size_t value) { return Value(static_cast<int64_t>(value)); };
  if (name == "index") return number(index_ + 1);
  if (name == "index0") return number(index_);
  if (name == "revindex") return number(items_.size() - index_);
  if (name == "revindex0") return number(items_.size() - index_ - 1);
  if (name == "first") return Value(index_ == 0);
  if (name == "last") return Value(index_ + 1 == items_.size());
  if (name == "length") return number(items_.size());
  // Counts recursive loops, which are not known here.
  if (name == "depth") return number(1);
  if (name == "depth0") return number(0);
  if (name == "previtem") {
    return index_ > 0 ? items_[index_ - 1] : Value::OfUndefined("there is no previous item");
  }
  if (name == "nextitem") {
    return index_ + 1 < items_.size() ? items_[index_ + 1]
                                      : Value::OfUndefined("there is no next item");
  }
  if (name == "cycle") return Value(&cycle_);
  if (name == "changed") return Value(&changed_);
  return std::nullopt;
}

Value Loop::Method::Call(Render& render, Arguments arguments) {
  if (cycles_) {
    if (arguments.positional.empty()) Fail("no items for cycling given");
    return arguments.positional[loop_.index_ % arguments.positional.size()];
  }
  Value seen = MakeList(render, std::move(arguments.positional), /*is_tuple=*/true);
  const bool changed = !loop_.last_changed_ || !Equal(*loop_.last_changed_, seen);
  loop_.last_changed_ = std::move(seen);
  return Value(changed);
}

class Macro final : public Object {
 public:
  Macro(const MacroDefinition& definition, std::shared_ptr<Scope> around)
      : definition_(definition), around_(std::move(around)) {}

  std::string type_name() const override { return "Macro"; }
  bool is_callable() const override { return true; }
  std::optional<Value> GetAttribute(std::string_view name) override {
    if (name != "name") return std::nullopt;
    return Value::String(definition_.name, Origin::kTemplate);
  }

  Value Call(Render& render, Arguments arguments) override {
    return render.InScope(around_, [&] {
      Bind(render, arguments);
      return Value(render.Capture(definition_.body));
    });
  }

 private:
  void Bind(Render& render, Arguments& arguments);
  void BindRest(Render& render, Arguments& arguments, const std::vector<bool>& taken);

  const MacroDefinition& definition_;
  const std::shared_ptr<Scope> around_;
};

void Macro::Bind(Render& render, Arguments& arguments) {
  const auto& parameters = definition_.parameters;
  std::vector<bool> taken(arguments.named.size());
  for (size_t i = 0; i < parameters.size(); ++i) {
    const Parameter& parameter = parameters[i];
    std::optional<Value> value;
    if (i < arguments.positional.size()) value = arguments.positional[i];
    for (size_t j = 0; j < arguments.named.size(); ++j) {
      if (arguments.named[j].first != parameter.name) continue;
      if (value) {
        Fail("macro '{}' got two values for '{}'", definition_.name, parameter.name);
      }
      value = arguments.named[j].second;
      taken[j] = true;
    }
    if (!value && parameter.default_value != nullptr) {
      value = render.Evaluate(*parameter.default_value);
    }
    if (!value) {
      value = Value::OfUndefined(fmt::format("parameter '{}' was not provided", parameter.name));
    }
    render.scope().Set(parameter.name, *std::move(value));
  }
  BindRest(render, arguments, taken);
}

// What no parameter took: caller, kwargs, varargs, or an error.
void Macro::BindRest(Render& render, Arguments& arguments, const std::vector<bool>& taken) {
  Dict rest;
  Value caller = Value::OfUndefined("no caller defined");
  for (size_t j = 0; j < arguments.named.size(); ++j) {
    auto& [name, value] = arguments.named[j];
    if (taken[j]) continue;
    if (name == "caller" && definition_.uses_caller) {
      caller = std::move(value);
    } else if (definition_.uses_kwargs) {
      rest.Set(Value::String(std::move(name), Origin::kTemplate), std::move(value));
    } else {
      Fail("macro '{}' takes no keyword argument '{}'", definition_.name, name);
    }
  }
  if (definition_.uses_caller) render.scope().Set("caller", std::move(caller));
  if (definition_.uses_kwargs) render.scope().Set("kwargs", Value::OfDict(std::move(rest)));
  auto& values = arguments.positional;
  const size_t num_parameters = definition_.parameters.size();
  if (values.size() > num_parameters && !definition_.uses_varargs) {
    Fail("macro '{}' takes not more than {} argument(s)", definition_.name, num_parameters);
  }
  if (!definition_.uses_varargs) return;
  values.erase(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(
                                                    std::min(values.size(), num_parameters)));
  render.scope().Set("varargs", MakeList(render, std::move(values), /*is_tuple=*/true));
}

// What the filter of a block makes of the block's text: a name no template can spell carries it.
Value Filtered(Render& render, const ExpressionPtr& filter, Text text) {
  if (filter == nullptr) return Value(std::move(text));
  return render.InScope(render.scope_pointer(), [&] {
    render.scope().Set("", Value(std::move(text)));
    return render.Evaluate(*filter);
  });
}

}  // namespace

void Target::Assign(Render& render, const Value& value) const {
  if (!attribute.empty()) {
    const Value object = render.Lookup(name);
    auto* space = object.is_object() ? dynamic_cast<Namespace*>(&object.object()) : nullptr;
    if (space == nullptr) Fail("cannot assign attribute on non-namespace object '{}'", name);
    return space->Set(attribute, value);
  }
  if (parts.empty()) return render.scope().Set(name, value);
  RequireDefined(value);
  const std::vector<Value> items = ItemsOf(render, value);
  if (items.size() != parts.size()) {
    Fail("{} values to unpack (expected {}, got {})",
         items.size() < parts.size() ? "not enough" : "too many", parts.size(), items.size());
  }
  for (size_t i = 0; i < parts.size(); ++i) parts[i].Assign(render, items[i]);
}

Flow TextOutput::Execute(Render& render) const {
  render.Output(text);
  return Flow::kNext;
}

Flow ValueOutput::Execute(Render& render) const {
  render.Output(Str(render.Evaluate(*value)));
  return Flow::kNext;
}

Flow If::Execute(Render& render) const {
  for (const auto& [condition, block] : branches) {
    if (IsTrue(render.Evaluate(*condition))) return render.Execute(block);
  }
  return render.Execute(otherwise);
}

std::vector<Value> For::Items(Render& render) const {
  std::vector<Value> items = ItemsOf(render, render.Evaluate(*iterable));
  if (condition == nullptr) return items;
  std::vector<Value> selected;
  for (Value& item : items) {
    const bool wanted = render.InScope(render.scope_pointer(), [&] {
      target.Assign(render, item);
      return IsTrue(render.Evaluate(*condition));
    });
    if (wanted) selected.push_back(std::move(item));
  }
  return selected;
}

Flow For::Execute(Render& render) const {
  std::vector<Value> items = Items(render);
  const std::shared_ptr<Scope> around = render.scope_pointer();
  if (items.empty()) {
    return render.InScope(around, [&] { return render.Execute(otherwise); });
  }
  // A loop that the body names may be held beyond it.
  std::optional<Loop> unnamed;
  Loop& loop = uses_loop ? render.Make<Loop>(std::move(items)) : unnamed.emplace(std::move(items));
  for (size_t i = 0; i < loop.size(); ++i) {
    const Flow flow = render.InScope(around, [&] {
      if (uses_loop) render.scope().Set("loop", Value(&loop));
      target.Assign(render, loop.Enter(i));
      return render.Execute(body);
    });
    render.CountSteps(1);
    if (flow == Flow::kBreak) break;
  }
  return Flow::kNext;
}

Flow Set::Execute(Render& render) const {
  if (value != nullptr) {
    target.Assign(render, render.Evaluate(*value));
    return Flow::kNext;
  }
  Text text = render.InScope(render.scope_pointer(), [&] { return render.Capture(body); });
  target.Assign(render, Filtered(render, filter, std::move(text)));
  return Flow::kNext;
}

Flow Scoped::Execute(Render& render) const {
  std::vector<Value> values;
  for (const auto& [name, expression] : bindings) values.push_back(render.Evaluate(*expression));
  return render.InScope(render.scope_pointer(), [&] {
    for (size_t i = 0; i < bindings.size(); ++i) bindings[i].first.Assign(render, values[i]);
    if (filter == nullptr) return render.Execute(body);
    Text text = render.Capture(body);
    render.Output(Str(Filtered(render, filter, std::move(text))));
    return Flow::kNext;
  });
}

Flow MacroDefinition::Execute(Render& render) const {
  render.scope().Set(name, Value(&render.Make<Macro>(*this, render.scope_pointer())));
  return Flow::kNext;
}

Flow CallBlock::Execute(Render& render) const {
  Macro& caller = render.Make<Macro>(*body, render.scope_pointer());
  const Value function = render.Evaluate(*call->callee);
  Arguments arguments = call->arguments.Evaluate(render);
  arguments.named.emplace_back("caller", Value(&caller));
  render.set_line(line);
  RequireDefined(function);
  if (!function.is_object()) Fail("'{}' object is not callable", TypeName(function));
  render.Output(Str(function.object().Call(render, std::move(arguments))));
  return Flow::kNext;
}

}  // namespace kvs::jinja
