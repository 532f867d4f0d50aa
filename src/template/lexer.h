// Lexer: a template's source -> text, tags and the tokens inside them. White space control, raw
// sections and comments are settled here, with trim_blocks and lstrip_blocks on as Transformers
// sets them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace kvs::jinja {

struct Token {
  enum class Kind : uint8_t {
    kText,           // outside of tags
    kBlockBegin,     // {%
    kBlockEnd,       // %}
    kVariableBegin,  // {{
    kVariableEnd,    // }}
    kName,
    kString,  // text: its value, escapes resolved
    kInteger,
    kFloat,
    kOperator,
    kEnd,
  };

  Kind kind;
  std::string text;
  uint32_t line;

  bool Is(Kind wanted, std::string_view wanted_text) const {
    return kind == wanted && text == wanted_text;
  }
  bool IsOperator(std::string_view wanted) const { return Is(Kind::kOperator, wanted); }
  bool IsName(std::string_view wanted) const { return Is(Kind::kName, wanted); }
};

// Ends with kEnd. Throws TemplateError with the line. REQUIRES: `source` is UTF-8.
std::vector<Token> Tokenize(std::string_view source);

}  // namespace kvs::jinja
