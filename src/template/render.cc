#include "template/render.h"

#include <fmt/format.h>

#include <algorithm>

#include "template/builtins.h"
#include "template/error.h"

namespace kvs::jinja {
namespace {

[[noreturn]] void Exhausted(std::string message) {
  throw TemplateError{std::move(message), TemplateError::Cause::kBudget};
}

}  // namespace

const Value* Scope::Find(std::string_view name) const {
  for (const Scope* scope = this; scope != nullptr; scope = scope->parent.get()) {
    for (const auto& [known, value] : scope->names) {
      if (known == name) return &value;
    }
  }
  return nullptr;
}

void Scope::Set(std::string_view name, Value value) {
  for (auto& [known, old] : names) {
    if (known != name) continue;
    old = std::move(value);
    return;
  }
  names.emplace_back(name, std::move(value));
}

Render::Render(const RenderInputs& inputs, const RenderLimits& limits)
    : inputs_(inputs), limits_(limits) {
  for (const auto& [name, value] : inputs.variables) scope_->Set(name, value);
}

Render::Level::Level(Render& render) : render_(render) {
  if (++render_.depth_ <= render_.limits_.max_depth) return;
  --render_.depth_;
  Exhausted(fmt::format("nested deeper than {} levels", render_.limits_.max_depth));
}

Value Render::Evaluate(const Expression& expression) {
  const Level level(*this);
  CountSteps(1);
  line_ = expression.line;
  return expression.Evaluate(*this);
}

Flow Render::Execute(const Block& block) {
  const Level level(*this);
  for (const auto& statement : block) {
    CountSteps(1);
    line_ = statement->line;
    if (const Flow flow = statement->Execute(*this); flow != Flow::kNext) return flow;
  }
  return Flow::kNext;
}

Value Render::Lookup(const std::string& name) {
  if (const Value* value = scope_->Find(name)) return *value;
  if (Object* function = FindFunction(name)) return Value(function);
  return Value::OfUndefined(fmt::format("'{}' is undefined", name));
}

Text Render::Capture(const Block& block) {
  Text outer = std::exchange(output_, Text());
  Execute(block);
  return std::exchange(output_, std::move(outer));
}

void Render::Output(const Text& text) {
  CountBytes(text.size());
  output_.Append(text);
  if (output_.size() > limits_.max_output_bytes) {
    Exhausted(fmt::format("the output is over {} bytes", limits_.max_output_bytes));
  }
}

void Render::CountSteps(uint64_t num_steps) {
  num_steps_ += num_steps;
  if (num_steps_ > limits_.max_steps) {
    Exhausted(fmt::format("over {} steps: an endless loop?", limits_.max_steps));
  }
}

void Render::CountBytes(uint64_t num_bytes) {
  num_bytes_ += num_bytes;
  if (num_bytes_ > limits_.max_bytes_made) {
    Exhausted(fmt::format("over {} bytes of intermediate values", limits_.max_bytes_made));
  }
}

}  // namespace kvs::jinja
