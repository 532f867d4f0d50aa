// Parser: the tokens of a template -> its syntax tree. What the engine has no word for (a tag, a
// filter, a test) is refused here, by name and line, not while rendering.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "template/ast.h"
#include "template/lexer.h"

namespace kvs::jinja {

// What may stand inside of each other, and how long a chain of operators may be: parsing,
// evaluating and freeing the tree recurses.
inline constexpr uint32_t kMaxTreeDepth = 200;

struct ParsedTemplate {
  Block block;
  std::vector<std::string> names;  // that its expressions name; sorted, each once
};

// Throws TemplateError.
ParsedTemplate ParseTemplate(std::string_view source);

// The tokens, and what both halves of the parser share.
class TokenStream {
 public:
  explicit TokenStream(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  const Token& current() const { return tokens_[at_]; }
  const Token& next() const { return tokens_[at_ + 1 < tokens_.size() ? at_ + 1 : at_]; }
  uint32_t line() const { return current().line; }
  Token Take();
  bool SkipOperator(std::string_view op);
  bool SkipName(std::string_view name);
  void ExpectOperator(std::string_view op);
  std::string ExpectName();
  void ExpectKind(Token::Kind kind, std::string_view what);
  [[noreturn]] void Refuse(const std::string& message) const;
  [[noreturn]] void RefuseCurrent(std::string_view expected) const;

 private:
  std::vector<Token> tokens_;
  size_t at_ = 0;
};

// One level of the tree while it is parsed.
class TreeLevel {
 public:
  TreeLevel(uint32_t& depth, const TokenStream& tokens) : depth_(depth) {
    if (++depth_ > kMaxTreeDepth) tokens.Refuse("the template is nested too deeply");
  }
  ~TreeLevel() { --depth_; }
  TreeLevel(const TreeLevel&) = delete;
  TreeLevel& operator=(const TreeLevel&) = delete;

 private:
  uint32_t& depth_;
};

// Expressions, by precedence: the lowest first.
class ExpressionParser {
 public:
  ExpressionParser(TokenStream& tokens, uint32_t& depth) : tokens_(tokens), depth_(depth) {}

  ExpressionPtr ParseExpression(bool with_conditional = true);
  // A tuple where commas say so; ends at `end_name` ("if", "in") or at a tag's or bracket's end.
  ExpressionPtr ParseTuple(bool with_conditional = true, std::string_view end_name = {},
                           bool in_parentheses = false);
  ExpressionPtr ParsePostfix(ExpressionPtr node);
  ExpressionPtr ParseUnary(bool with_filter = true);
  // `| name(args) ...`; with `inline_start` the first name follows without its '|'.
  ExpressionPtr ParseFilters(ExpressionPtr input, bool inline_start = false);

  // Every name that was read so far: a block that names `loop`, `caller` adds it here.
  const std::vector<std::string>& names() const { return names_; }
  bool NamedSince(size_t begin, std::string_view name) const;

 private:
  ExpressionPtr ParseOr();
  ExpressionPtr ParseAnd();
  ExpressionPtr ParseNot();
  ExpressionPtr ParseComparison();
  ExpressionPtr ParseSum();
  ExpressionPtr ParseConcat();
  ExpressionPtr ParseProduct();
  ExpressionPtr ParsePower();
  ExpressionPtr ParsePrimary();
  ExpressionPtr ParseName();
  ExpressionPtr ParseString();
  ExpressionPtr ParseNumber();
  ExpressionPtr ParseList();
  ExpressionPtr ParseDict();
  ExpressionPtr ParseFilterOrTest(ExpressionPtr node);
  ExpressionPtr ParseTest(ExpressionPtr node);
  ExpressionPtr ParseDot(ExpressionPtr node);
  ExpressionPtr ParseSubscript(ExpressionPtr node);
  ExpressionPtr ParseCall(ExpressionPtr node);
  void ParseArguments(CallArguments& arguments);
  void ParseArgument(CallArguments& arguments);
  bool AtTupleEnd(std::string_view end_name) const;
  // Left-associative chains grow the tree to the left: their length is its depth.
  void CheckChain(uint32_t length) const;

  TokenStream& tokens_;
  uint32_t& depth_;
  std::vector<std::string> names_;
};

}  // namespace kvs::jinja
