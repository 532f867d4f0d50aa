// Template: a Jinja template as Hugging Face checkpoints carry them, parsed once and rendered for
// each conversation as Transformers does: jinja2's sandbox with trim_blocks, lstrip_blocks and loop
// controls, and the functions raise_exception and strftime_now.
//
// A template is the operator's; what it is given is the client's. Rendering is bounded in steps,
// memory, output and depth, and reaches nothing outside its inputs. Immutable: thread-safe.
#pragma once

#include <cstdint>
#include <ctime>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kvserve/status.h"
#include "template/text.h"
#include "template/value.h"

namespace kvs::jinja {

struct RenderInputs {
  std::vector<std::pair<std::string, Value>> variables;  // messages, tools, bos_token, ...
  std::time_t now = 0;                                   // of strftime_now; shown as local time
};

struct RenderLimits {
  uint64_t max_steps = 10'000'000;  // a node of the tree, or 64 bytes of text looked at
  uint64_t max_bytes_made = uint64_t{256} << 20;  // of texts and lists, also those let go again
  uint64_t max_output_bytes = uint64_t{32} << 20;
  uint32_t max_depth = 400;  // of nodes and macros inside each other
};

inline constexpr size_t kMaxTemplateBytes = size_t{1} << 20;

class Template {
 public:
  // kDataError with the line and what is wrong there.
  static Result<Template> Parse(std::string_view source);

  // kInvalidArgument with the line and what failed, or what raise_exception was given; kInternal
  // when a limit is reached.
  Result<Text> Render(const RenderInputs& inputs, const RenderLimits& limits = {}) const;

  // Whether the template names `name` anywhere.
  bool Reads(std::string_view name) const;

 private:
  struct Tree;
  explicit Template(std::shared_ptr<const Tree> tree) : tree_(std::move(tree)) {}

  std::shared_ptr<const Tree> tree_;
};

}  // namespace kvs::jinja
