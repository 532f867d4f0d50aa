#include "template/parser.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "template/builtins.h"
#include "template/error.h"

namespace kvs::jinja {
namespace {

std::string Described(const Token& token) {
  switch (token.kind) {
    case Token::Kind::kText:
      return "text";
    case Token::Kind::kBlockBegin:
      return "'{%'";
    case Token::Kind::kBlockEnd:
      return "'%}'";
    case Token::Kind::kVariableBegin:
      return "'{{'";
    case Token::Kind::kVariableEnd:
      return "'}}'";
    case Token::Kind::kString:
      return "a string";
    case Token::Kind::kEnd:
      return "the end of the template";
    default:
      return "'" + token.text + "'";
  }
}

// Statements.
class Parser {
 public:
  explicit Parser(std::string_view source)
      : tokens_(Tokenize(source)), expressions_(tokens_, depth_) {}

  ParsedTemplate Run() {
    Block block = ParseBlock({});
    if (tokens_.current().kind != Token::Kind::kEnd) {
      tokens_.Refuse(fmt::format("{{% {} %}} ends nothing", tokens_.current().text));
    }
    std::vector<std::string> names = expressions_.names();
    std::sort(names.begin(), names.end());
    names.erase(std::unique(names.begin(), names.end()), names.end());
    return {std::move(block), std::move(names)};
  }

 private:
  using EndNames = std::vector<std::string_view>;

  // Up to a tag named in `ends`, whose name is then current, or to the template's end.
  Block ParseBlock(const EndNames& ends);
  std::unique_ptr<const Statement> ParseTag();
  std::unique_ptr<const Statement> ParseIf(uint32_t line);
  std::unique_ptr<const Statement> ParseFor(uint32_t line);
  std::unique_ptr<const Statement> ParseSet(uint32_t line);
  std::unique_ptr<const Statement> ParseWith(uint32_t line);
  std::unique_ptr<const Statement> ParseFilterBlock(uint32_t line);
  std::unique_ptr<const Statement> ParseGeneration(uint32_t line);
  std::unique_ptr<const Statement> ParseMacro(uint32_t line);
  std::unique_ptr<const Statement> ParseCallBlock(uint32_t line);
  std::unique_ptr<const Statement> ParseJump(uint32_t line, Flow flow);
  // The body of `tag`, up to and with its end tag.
  Block ParseBody(std::string_view tag, const std::string& end, uint32_t line);
  // The body of a macro: a function of its own, whose loops are not the loops around it.
  void ParseMacroBody(std::string_view tag, const std::string& end, MacroDefinition& macro);
  void ParseParameters(MacroDefinition& macro);
  Target ParseTarget(bool with_attribute);
  Target ParseOneTarget(bool with_attribute);
  void EndTag() { tokens_.ExpectKind(Token::Kind::kBlockEnd, "'%}'"); }

  TokenStream tokens_;
  uint32_t depth_ = 0;
  ExpressionParser expressions_;
  uint32_t num_loops_ = 0;  // around the current tag
};

Block Parser::ParseBlock(const EndNames& ends) {
  const TreeLevel level(depth_, tokens_);
  Block block;
  while (true) {
    const uint32_t line = tokens_.line();
    switch (tokens_.current().kind) {
      case Token::Kind::kText:
        block.push_back(std::make_unique<TextOutput>(line, tokens_.Take().text));
        break;
      case Token::Kind::kVariableBegin:
        tokens_.Take();
        block.push_back(std::make_unique<ValueOutput>(line, expressions_.ParseTuple()));
        tokens_.ExpectKind(Token::Kind::kVariableEnd, "'}}'");
        break;
      case Token::Kind::kBlockBegin: {
        tokens_.Take();
        const Token& name = tokens_.current();
        if (name.kind != Token::Kind::kName) tokens_.RefuseCurrent("the name of a tag");
        if (std::find(ends.begin(), ends.end(), name.text) != ends.end()) return block;
        block.push_back(ParseTag());
        break;
      }
      default:
        return block;
    }
  }
}

std::unique_ptr<const Statement> Parser::ParseTag() {
  const Token tag = tokens_.Take();
  if (tag.text == "if") return ParseIf(tag.line);
  if (tag.text == "for") return ParseFor(tag.line);
  if (tag.text == "set") return ParseSet(tag.line);
  if (tag.text == "macro") return ParseMacro(tag.line);
  if (tag.text == "call") return ParseCallBlock(tag.line);
  if (tag.text == "filter") return ParseFilterBlock(tag.line);
  if (tag.text == "with") return ParseWith(tag.line);
  if (tag.text == "generation") return ParseGeneration(tag.line);
  if (tag.text == "break") return ParseJump(tag.line, Flow::kBreak);
  if (tag.text == "continue") return ParseJump(tag.line, Flow::kContinue);
  tokens_.Refuse(fmt::format(
      "{{% {} %}} is not known here; known: if, for, set, macro, call, filter, with, generation, "
      "break, continue, raw",
      tag.text));
}

std::unique_ptr<const Statement> Parser::ParseIf(uint32_t line) {
  auto node = std::make_unique<If>(line);
  while (true) {
    ExpressionPtr condition = expressions_.ParseTuple(/*with_conditional=*/false);
    EndTag();
    node->branches.emplace_back(std::move(condition), ParseBlock({"elif", "else", "endif"}));
    if (tokens_.SkipName("elif")) continue;
    if (tokens_.SkipName("else")) {
      EndTag();
      node->otherwise = ParseBlock({"endif"});
    }
    if (!tokens_.SkipName("endif")) {
      tokens_.Refuse(fmt::format("the {{% if %}} of line {} has no {{% endif %}}", line));
    }
    EndTag();
    return node;
  }
}

std::unique_ptr<const Statement> Parser::ParseFor(uint32_t line) {
  auto node = std::make_unique<For>(line);
  node->target = ParseTarget(/*with_attribute=*/false);
  if (!tokens_.SkipName("in")) tokens_.RefuseCurrent("'in'");
  node->iterable = expressions_.ParseTuple(/*with_conditional=*/false, "recursive");
  if (tokens_.SkipName("if")) node->condition = expressions_.ParseExpression();
  if (tokens_.current().IsName("recursive")) {
    tokens_.Refuse("{% for ... recursive %} is not supported: use a macro");
  }
  EndTag();
  const size_t names_before = expressions_.names().size();
  ++num_loops_;
  node->body = ParseBlock({"else", "endfor"});
  --num_loops_;
  node->uses_loop = expressions_.NamedSince(names_before, "loop");
  if (tokens_.SkipName("else")) {
    EndTag();
    node->otherwise = ParseBlock({"endfor"});
  }
  if (!tokens_.SkipName("endfor")) {
    tokens_.Refuse(fmt::format("the {{% for %}} of line {} has no {{% endfor %}}", line));
  }
  EndTag();
  return node;
}

Target Parser::ParseTarget(bool with_attribute) {
  Target target = ParseOneTarget(with_attribute);
  if (!tokens_.current().IsOperator(",")) return target;
  Target tuple;
  tuple.parts.push_back(std::move(target));
  while (tokens_.SkipOperator(",")) {
    if (tokens_.current().kind != Token::Kind::kName && !tokens_.current().IsOperator("(")) break;
    if (tokens_.current().IsName("in")) break;
    tuple.parts.push_back(ParseOneTarget(with_attribute));
  }
  return tuple;
}

Target Parser::ParseOneTarget(bool with_attribute) {
  const TreeLevel level(depth_, tokens_);
  if (tokens_.SkipOperator("(")) {
    Target inner = ParseTarget(with_attribute);
    tokens_.ExpectOperator(")");
    return inner;
  }
  Target target;
  target.name = tokens_.ExpectName();
  constexpr std::array<std::string_view, 6> kConstants = {"true",  "True", "false",
                                                          "False", "none", "None"};
  if (std::find(kConstants.begin(), kConstants.end(), target.name) != kConstants.end()) {
    tokens_.Refuse(fmt::format("'{}' cannot be assigned to", target.name));
  }
  if (with_attribute && tokens_.SkipOperator(".")) target.attribute = tokens_.ExpectName();
  return target;
}

std::unique_ptr<const Statement> Parser::ParseSet(uint32_t line) {
  auto node = std::make_unique<Set>(line);
  node->target = ParseTarget(/*with_attribute=*/true);
  if (tokens_.SkipOperator("=")) {
    node->value = expressions_.ParseTuple();
    EndTag();
    return node;
  }
  if (tokens_.current().IsOperator("|")) node->filter = expressions_.ParseFilters(nullptr);
  node->body = ParseBody("set", "endset", line);
  return node;
}

Block Parser::ParseBody(std::string_view tag, const std::string& end, uint32_t line) {
  EndTag();
  Block body = ParseBlock({end});
  if (!tokens_.SkipName(end)) {
    tokens_.Refuse(fmt::format("the {{% {} %}} of line {} has no {{% {} %}}", tag, line, end));
  }
  // {% endmacro name %} may repeat the name.
  if (tag == "macro" && tokens_.current().kind == Token::Kind::kName) tokens_.Take();
  EndTag();
  return body;
}

std::unique_ptr<const Statement> Parser::ParseWith(uint32_t line) {
  auto node = std::make_unique<Scoped>(line);
  while (tokens_.current().kind != Token::Kind::kBlockEnd) {
    Target target = ParseOneTarget(/*with_attribute=*/false);
    tokens_.ExpectOperator("=");
    node->bindings.emplace_back(std::move(target), expressions_.ParseExpression());
    if (!tokens_.SkipOperator(",")) break;
  }
  node->body = ParseBody("with", "endwith", line);
  return node;
}

std::unique_ptr<const Statement> Parser::ParseFilterBlock(uint32_t line) {
  auto node = std::make_unique<Scoped>(line);
  node->filter = expressions_.ParseFilters(nullptr, /*inline_start=*/true);
  node->body = ParseBody("filter", "endfilter", line);
  return node;
}

std::unique_ptr<const Statement> Parser::ParseGeneration(uint32_t line) {
  auto node = std::make_unique<Scoped>(line);
  node->body = ParseBody("generation", "endgeneration", line);
  return node;
}

void Parser::ParseParameters(MacroDefinition& macro) {
  tokens_.ExpectOperator("(");
  while (!tokens_.current().IsOperator(")")) {
    Parameter parameter;
    parameter.name = tokens_.ExpectName();
    if (tokens_.SkipOperator("=")) {
      parameter.default_value = expressions_.ParseExpression();
    } else if (!macro.parameters.empty() && macro.parameters.back().default_value != nullptr) {
      tokens_.Refuse("a parameter without a default follows one with a default");
    }
    macro.parameters.push_back(std::move(parameter));
    if (!tokens_.SkipOperator(",")) break;
  }
  tokens_.ExpectOperator(")");
}

void Parser::ParseMacroBody(std::string_view tag, const std::string& end, MacroDefinition& macro) {
  const size_t names_before = expressions_.names().size();
  const uint32_t loops = std::exchange(num_loops_, 0);
  macro.body = ParseBody(tag, end, macro.line);
  num_loops_ = loops;
  macro.uses_caller = expressions_.NamedSince(names_before, "caller");
  macro.uses_varargs = expressions_.NamedSince(names_before, "varargs");
  macro.uses_kwargs = expressions_.NamedSince(names_before, "kwargs");
}

std::unique_ptr<const Statement> Parser::ParseMacro(uint32_t line) {
  auto node = std::make_unique<MacroDefinition>(line);
  node->name = tokens_.ExpectName();
  ParseParameters(*node);
  ParseMacroBody("macro", "endmacro", *node);
  return node;
}

std::unique_ptr<const Statement> Parser::ParseCallBlock(uint32_t line) {
  auto node = std::make_unique<CallBlock>(line);
  auto body = std::make_unique<MacroDefinition>(line);
  if (tokens_.current().IsOperator("(")) ParseParameters(*body);
  ExpressionPtr call = expressions_.ParseExpression();
  if (dynamic_cast<const Call*>(call.get()) == nullptr) {
    tokens_.Refuse("{% call %} needs a call of a macro");
  }
  node->call.reset(static_cast<const Call*>(call.release()));
  ParseMacroBody("call", "endcall", *body);
  node->body = std::move(body);
  return node;
}

std::unique_ptr<const Statement> Parser::ParseJump(uint32_t line, Flow flow) {
  if (num_loops_ == 0) tokens_.Refuse("{% break %} and {% continue %} stand in a loop only");
  EndTag();
  return std::make_unique<Jump>(line, flow);
}

}  // namespace

Token TokenStream::Take() {
  Token token = tokens_[at_];
  if (at_ + 1 < tokens_.size()) ++at_;
  return token;
}

bool TokenStream::SkipOperator(std::string_view op) {
  if (!current().IsOperator(op)) return false;
  Take();
  return true;
}

bool TokenStream::SkipName(std::string_view name) {
  if (!current().IsName(name)) return false;
  Take();
  return true;
}

void TokenStream::ExpectOperator(std::string_view op) {
  if (!SkipOperator(op)) RefuseCurrent(fmt::format("'{}'", op));
}

std::string TokenStream::ExpectName() {
  if (current().kind != Token::Kind::kName) RefuseCurrent("a name");
  return Take().text;
}

void TokenStream::ExpectKind(Token::Kind kind, std::string_view what) {
  if (current().kind != kind) RefuseCurrent(what);
  Take();
}

void TokenStream::Refuse(const std::string& message) const {
  throw TemplateError{message, TemplateError::Cause::kFault, line()};
}

void TokenStream::RefuseCurrent(std::string_view expected) const {
  Refuse(fmt::format("expected {}, got {}", expected, Described(current())));
}

ParsedTemplate ParseTemplate(std::string_view source) { return Parser(source).Run(); }

}  // namespace kvs::jinja
