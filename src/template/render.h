// Render: the state of one rendering: scopes, output, objects, and what it may still use up. Used
// by one thread; the tree it walks is shared.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "template/ast.h"
#include "template/template.h"

namespace kvs::jinja {

// Names of one level (the template, a loop's round, a macro's call), and the level around it.
struct Scope {
  std::shared_ptr<Scope> parent;
  std::vector<std::pair<std::string, Value>> names;

  const Value* Find(std::string_view name) const;  // here and outwards; null: nowhere
  void Set(std::string_view name, Value value);    // here
};

class Render {
 public:
  Render(const RenderInputs& inputs, const RenderLimits& limits);

  // Both count a step, guard the depth, and keep the line for messages.
  Value Evaluate(const Expression& expression);
  Flow Execute(const Block& block);

  // Variables, then the functions every template has; undefined where there is neither.
  Value Lookup(const std::string& name);

  // Runs `visit` with a new scope inside of the current one, or of `parent`.
  template <class Visit>
  auto InScope(std::shared_ptr<Scope> parent, Visit visit);
  Scope& scope() { return *scope_; }
  const std::shared_ptr<Scope>& scope_pointer() const { return scope_; }

  // The text that `block` puts out, instead of putting it out.
  Text Capture(const Block& block);
  void Output(const Text& text);
  Text TakeOutput() { return std::move(output_); }

  // Objects live until the render ends, since values point to them.
  template <class T, class... Args>
  T& Make(Args&&... args);

  // Throw TemplateError (kBudget) when the limit is reached.
  void CountSteps(uint64_t num_steps);
  void CountBytes(uint64_t num_bytes);  // of text and lists made

  void set_line(uint32_t line) { line_ = line; }
  uint32_t line() const { return line_; }
  const RenderInputs& inputs() const { return inputs_; }

  // Guards recursion that does not pass through Evaluate.
  class Level {
   public:
    explicit Level(Render& render);
    ~Level() { --render_.depth_; }
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;

   private:
    Render& render_;
  };

 private:
  const RenderInputs& inputs_;
  const RenderLimits limits_;
  std::shared_ptr<Scope> scope_ = std::make_shared<Scope>();
  Text output_;
  std::vector<std::unique_ptr<Object>> objects_;
  uint64_t num_steps_ = 0;
  uint64_t num_bytes_ = 0;
  uint32_t depth_ = 0;
  uint32_t line_ = 0;
};

template <class Visit>
auto Render::InScope(std::shared_ptr<Scope> parent, Visit visit) {
  // Restores the scope also when `visit` throws: the macro's caller may be a filter's argument.
  struct Restore {
    std::shared_ptr<Scope>& place;
    std::shared_ptr<Scope> saved;
    ~Restore() { place = std::move(saved); }
  };
  const Restore restore{scope_, scope_};
  scope_ = std::make_shared<Scope>();
  scope_->parent = std::move(parent);
  return visit();
}

template <class T, class... Args>
T& Render::Make(Args&&... args) {
  CountBytes(sizeof(T));
  auto object = std::make_unique<T>(std::forward<Args>(args)...);
  T& made = *object;
  objects_.push_back(std::move(object));
  return made;
}

}  // namespace kvs::jinja
