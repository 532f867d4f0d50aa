#include "template/template.h"

#include <fmt/format.h>

#include <algorithm>

#include "template/error.h"
#include "template/parser.h"
#include "template/render.h"
#include "tokenize/utf8.h"

namespace kvs::jinja {

struct Template::Tree {
  ParsedTemplate parsed;
};

Result<Template> Template::Parse(std::string_view source) {
  if (source.size() > kMaxTemplateBytes) {
    return Error(Code::kDataError, fmt::format("the chat template has {} bytes, at most {} allowed",
                                               source.size(), kMaxTemplateBytes));
  }
  if (const auto offset = FindInvalidUtf8(source)) {
    return Error(Code::kDataError,
                 fmt::format("the chat template is not valid UTF-8 at byte {}", *offset));
  }
  try {
    return Template(std::make_shared<const Tree>(Tree{ParseTemplate(source)}));
  } catch (const TemplateError& error) {
    return Error(Code::kDataError,
                 fmt::format("the chat template, line {}: {}", error.line, error.message));
  }
}

Result<Text> Template::Render(const RenderInputs& inputs, const RenderLimits& limits) const {
  jinja::Render render(inputs, limits);
  try {
    render.Execute(tree_->parsed.block);
    return render.TakeOutput();
  } catch (const TemplateError& error) {
    if (error.cause == TemplateError::Cause::kRaised) {
      return Error(Code::kInvalidArgument,
                   fmt::format("the chat template says: {}", error.message));
    }
    const bool budget = error.cause == TemplateError::Cause::kBudget;
    return Error(budget ? Code::kInternal : Code::kInvalidArgument,
                 fmt::format("the chat template, line {}: {}", render.line(), error.message));
  }
}

bool Template::Reads(std::string_view name) const {
  const auto& names = tree_->parsed.names;
  return std::binary_search(names.begin(), names.end(), name);
}

}  // namespace kvs::jinja
