#include <algorithm>
#include <array>
#include <charconv>

#include "template/builtins.h"
#include "template/error.h"
#include "template/parser.h"

namespace kvs::jinja {
namespace {

constexpr std::array<std::string_view, 6> kComparisons = {"==", "!=", "<", "<=", ">", ">="};

bool StartsTestArgument(const Token& token) {
  switch (token.kind) {
    case Token::Kind::kName:
      return token.text != "else" && token.text != "or" && token.text != "and" &&
             token.text != "is" && token.text != "if" && token.text != "in" && token.text != "not";
    case Token::Kind::kString:
    case Token::Kind::kInteger:
    case Token::Kind::kFloat:
      return true;
    case Token::Kind::kOperator:
      return token.text == "[" || token.text == "{";
    default:
      return false;
  }
}

}  // namespace

void ExpressionParser::CheckChain(uint32_t length) const {
  if (depth_ + length > kMaxTreeDepth) tokens_.Refuse("the expression has too many operators");
}

bool ExpressionParser::NamedSince(size_t begin, std::string_view name) const {
  return std::find(names_.begin() + static_cast<std::ptrdiff_t>(begin), names_.end(), name) !=
         names_.end();
}

ExpressionPtr ExpressionParser::ParseExpression(bool with_conditional) {
  const TreeLevel level(depth_, tokens_);
  ExpressionPtr node = ParseOr();
  for (uint32_t length = 1; with_conditional && tokens_.current().IsName("if"); ++length) {
    CheckChain(length);
    auto conditional = std::make_unique<Conditional>(tokens_.Take().line);
    conditional->then = std::move(node);
    conditional->condition = ParseOr();
    if (tokens_.SkipName("else")) conditional->otherwise = ParseExpression();
    node = std::move(conditional);
  }
  return node;
}

ExpressionPtr ExpressionParser::ParseOr() {
  ExpressionPtr first = ParseAnd();
  if (!tokens_.current().IsName("or")) return first;
  auto node = std::make_unique<Logical>(first->line, false);
  node->operands.push_back(std::move(first));
  while (tokens_.SkipName("or")) node->operands.push_back(ParseAnd());
  return node;
}

ExpressionPtr ExpressionParser::ParseAnd() {
  ExpressionPtr first = ParseNot();
  if (!tokens_.current().IsName("and")) return first;
  auto node = std::make_unique<Logical>(first->line, true);
  node->operands.push_back(std::move(first));
  while (tokens_.SkipName("and")) node->operands.push_back(ParseNot());
  return node;
}

ExpressionPtr ExpressionParser::ParseNot() {
  if (!tokens_.current().IsName("not")) return ParseComparison();
  const TreeLevel level(depth_, tokens_);
  const uint32_t line = tokens_.Take().line;
  return std::make_unique<Unary>(line, Unary::Op::kNot, ParseNot());
}

ExpressionPtr ExpressionParser::ParseComparison() {
  ExpressionPtr first = ParseSum();
  auto node = std::make_unique<Comparison>(first->line);
  while (true) {
    const Token& token = tokens_.current();
    std::string op;
    if (token.kind == Token::Kind::kOperator &&
        std::find(kComparisons.begin(), kComparisons.end(), token.text) != kComparisons.end()) {
      op = tokens_.Take().text;
    } else if (tokens_.SkipName("in")) {
      op = "in";
    } else if (token.IsName("not") && tokens_.next().IsName("in")) {
      tokens_.Take();
      tokens_.Take();
      op = "not in";
    } else {
      break;
    }
    node->others.emplace_back(std::move(op), ParseSum());
  }
  if (node->others.empty()) return first;
  node->first = std::move(first);
  return node;
}

ExpressionPtr ExpressionParser::ParseSum() {
  ExpressionPtr left = ParseConcat();
  for (uint32_t length = 1; tokens_.current().IsOperator("+") || tokens_.current().IsOperator("-");
       ++length) {
    CheckChain(length);
    Token op = tokens_.Take();
    ExpressionPtr right = ParseConcat();
    left = std::make_unique<Binary>(op.line, std::move(op.text), std::move(left), std::move(right));
  }
  return left;
}

ExpressionPtr ExpressionParser::ParseConcat() {
  ExpressionPtr first = ParseProduct();
  if (!tokens_.current().IsOperator("~")) return first;
  auto node = std::make_unique<Concat>(first->line);
  node->parts.push_back(std::move(first));
  while (tokens_.SkipOperator("~")) node->parts.push_back(ParseProduct());
  return node;
}

ExpressionPtr ExpressionParser::ParseProduct() {
  const auto is_product = [](const Token& token) {
    return token.IsOperator("*") || token.IsOperator("/") || token.IsOperator("//") ||
           token.IsOperator("%");
  };
  ExpressionPtr left = ParsePower();
  for (uint32_t length = 1; is_product(tokens_.current()); ++length) {
    CheckChain(length);
    Token op = tokens_.Take();
    ExpressionPtr right = ParsePower();
    left = std::make_unique<Binary>(op.line, std::move(op.text), std::move(left), std::move(right));
  }
  return left;
}

// As jinja2: ** is left-associative, and a sign binds tighter.
ExpressionPtr ExpressionParser::ParsePower() {
  ExpressionPtr left = ParseUnary();
  for (uint32_t length = 1; tokens_.current().IsOperator("**"); ++length) {
    CheckChain(length);
    Token op = tokens_.Take();
    ExpressionPtr right = ParseUnary();
    left = std::make_unique<Binary>(op.line, std::move(op.text), std::move(left), std::move(right));
  }
  return left;
}

ExpressionPtr ExpressionParser::ParseUnary(bool with_filter) {
  const TreeLevel level(depth_, tokens_);
  const uint32_t line = tokens_.line();
  ExpressionPtr node;
  if (tokens_.SkipOperator("-")) {
    node = std::make_unique<Unary>(line, Unary::Op::kMinus, ParseUnary(false));
  } else if (tokens_.SkipOperator("+")) {
    node = std::make_unique<Unary>(line, Unary::Op::kPlus, ParseUnary(false));
  } else {
    node = ParsePrimary();
  }
  node = ParsePostfix(std::move(node));
  return with_filter ? ParseFilterOrTest(std::move(node)) : std::move(node);
}

ExpressionPtr ExpressionParser::ParsePrimary() {
  const Token& token = tokens_.current();
  switch (token.kind) {
    case Token::Kind::kName:
      return ParseName();
    case Token::Kind::kString:
      return ParseString();
    case Token::Kind::kInteger:
    case Token::Kind::kFloat:
      return ParseNumber();
    default:
      break;
  }
  if (tokens_.SkipOperator("(")) {
    ExpressionPtr node = ParseTuple(true, {}, /*in_parentheses=*/true);
    tokens_.ExpectOperator(")");
    return node;
  }
  if (token.IsOperator("[")) return ParseList();
  if (token.IsOperator("{")) return ParseDict();
  tokens_.RefuseCurrent("an expression");
}

ExpressionPtr ExpressionParser::ParseName() {
  Token token = tokens_.Take();
  if (token.text == "true" || token.text == "True") {
    return std::make_unique<Constant>(token.line, Value(true));
  }
  if (token.text == "false" || token.text == "False") {
    return std::make_unique<Constant>(token.line, Value(false));
  }
  if (token.text == "none" || token.text == "None") {
    return std::make_unique<Constant>(token.line, Value());
  }
  names_.push_back(token.text);
  return std::make_unique<Name>(token.line, std::move(token.text));
}

ExpressionPtr ExpressionParser::ParseString() {
  Token token = tokens_.Take();
  while (tokens_.current().kind == Token::Kind::kString) token.text += tokens_.Take().text;
  return std::make_unique<Constant>(token.line,
                                    Value::String(std::move(token.text), Origin::kTemplate));
}

ExpressionPtr ExpressionParser::ParseNumber() {
  const Token token = tokens_.Take();
  const char* begin = token.text.data();
  const char* end = begin + token.text.size();
  if (token.kind == Token::Kind::kInteger) {
    int64_t integer = 0;
    if (std::from_chars(begin, end, integer).ec != std::errc()) {
      tokens_.Refuse("the integer " + token.text + " does not fit in 64 bits");
    }
    return std::make_unique<Constant>(token.line, Value(integer));
  }
  double real = 0;
  if (std::from_chars(begin, end, real).ec != std::errc()) {
    tokens_.Refuse("the number " + token.text + " is out of range");
  }
  return std::make_unique<Constant>(token.line, Value(real));
}

bool ExpressionParser::AtTupleEnd(std::string_view end_name) const {
  const Token& token = tokens_.current();
  return token.kind == Token::Kind::kVariableEnd || token.kind == Token::Kind::kBlockEnd ||
         token.IsOperator(")") || (!end_name.empty() && token.IsName(end_name));
}

ExpressionPtr ExpressionParser::ParseTuple(bool with_conditional, std::string_view end_name,
                                           bool in_parentheses) {
  const uint32_t line = tokens_.line();
  auto tuple = std::make_unique<ListLiteral>(line, /*tuple=*/true);
  bool has_comma = false;
  while (!AtTupleEnd(end_name)) {
    tuple->items.push_back(ParseExpression(with_conditional));
    if (!tokens_.SkipOperator(",")) break;
    has_comma = true;
  }
  if (has_comma || (tuple->items.empty() && in_parentheses)) return tuple;
  if (tuple->items.empty()) tokens_.RefuseCurrent("an expression");
  return std::move(tuple->items.front());
}

ExpressionPtr ExpressionParser::ParseList() {
  auto list = std::make_unique<ListLiteral>(tokens_.Take().line, /*tuple=*/false);
  while (!tokens_.current().IsOperator("]")) {
    list->items.push_back(ParseExpression());
    if (!tokens_.SkipOperator(",")) break;
  }
  tokens_.ExpectOperator("]");
  return list;
}

ExpressionPtr ExpressionParser::ParseDict() {
  auto dict = std::make_unique<DictLiteral>(tokens_.Take().line);
  while (!tokens_.current().IsOperator("}")) {
    ExpressionPtr key = ParseExpression();
    tokens_.ExpectOperator(":");
    dict->entries.emplace_back(std::move(key), ParseExpression());
    if (!tokens_.SkipOperator(",")) break;
  }
  tokens_.ExpectOperator("}");
  return dict;
}

ExpressionPtr ExpressionParser::ParsePostfix(ExpressionPtr node) {
  for (uint32_t length = 1;; ++length) {
    CheckChain(length);
    if (tokens_.current().IsOperator(".")) {
      node = ParseDot(std::move(node));
    } else if (tokens_.current().IsOperator("[")) {
      node = ParseSubscript(std::move(node));
    } else if (tokens_.current().IsOperator("(")) {
      node = ParseCall(std::move(node));
    } else {
      return node;
    }
  }
}

ExpressionPtr ExpressionParser::ParseDot(ExpressionPtr node) {
  const uint32_t line = tokens_.Take().line;
  if (tokens_.current().kind == Token::Kind::kInteger) {
    return std::make_unique<Subscript>(line, std::move(node), ParseNumber());
  }
  return std::make_unique<Attribute>(line, std::move(node), tokens_.ExpectName());
}

ExpressionPtr ExpressionParser::ParseSubscript(ExpressionPtr node) {
  const uint32_t line = tokens_.Take().line;
  ExpressionPtr start;
  if (!tokens_.current().IsOperator(":")) start = ParseExpression();
  if (!tokens_.current().IsOperator(":")) {
    tokens_.ExpectOperator("]");
    return std::make_unique<Subscript>(line, std::move(node), std::move(start));
  }
  auto slice = std::make_unique<Slice>(line);
  slice->object = std::move(node);
  slice->start = std::move(start);
  const auto bound = [this]() -> ExpressionPtr {
    if (!tokens_.SkipOperator(":")) return nullptr;
    const bool absent = tokens_.current().IsOperator(":") || tokens_.current().IsOperator("]");
    return absent ? nullptr : ParseExpression();
  };
  slice->stop = bound();
  slice->step = bound();
  tokens_.ExpectOperator("]");
  return slice;
}

ExpressionPtr ExpressionParser::ParseCall(ExpressionPtr node) {
  auto call = std::make_unique<Call>(tokens_.line(), std::move(node));
  ParseArguments(call->arguments);
  return call;
}

void ExpressionParser::ParseArguments(CallArguments& arguments) {
  tokens_.ExpectOperator("(");
  while (!tokens_.current().IsOperator(")")) {
    ParseArgument(arguments);
    if (!tokens_.SkipOperator(",")) break;
  }
  tokens_.ExpectOperator(")");
}

void ExpressionParser::ParseArgument(CallArguments& arguments) {
  if (tokens_.SkipOperator("**")) {
    if (arguments.more_named != nullptr) tokens_.Refuse("** stands twice in one call");
    arguments.more_named = ParseExpression();
  } else if (tokens_.SkipOperator("*")) {
    if (arguments.more_positional != nullptr) tokens_.Refuse("* stands twice in one call");
    arguments.more_positional = ParseExpression();
  } else if (tokens_.current().kind == Token::Kind::kName && tokens_.next().IsOperator("=")) {
    std::string name = tokens_.Take().text;
    tokens_.Take();
    arguments.named.emplace_back(std::move(name), ParseExpression());
  } else {
    if (!arguments.named.empty()) tokens_.Refuse("a positional argument follows a named one");
    arguments.positional.push_back(ParseExpression());
  }
}

ExpressionPtr ExpressionParser::ParseFilterOrTest(ExpressionPtr node) {
  for (uint32_t length = 1;; ++length) {
    CheckChain(length);
    if (tokens_.current().IsOperator("|")) {
      node = ParseFilters(std::move(node));
    } else if (tokens_.current().IsName("is")) {
      node = ParseTest(std::move(node));
    } else if (tokens_.current().IsOperator("(")) {
      node = ParseCall(std::move(node));
    } else {
      return node;
    }
  }
}

ExpressionPtr ExpressionParser::ParseFilters(ExpressionPtr input, bool inline_start) {
  for (uint32_t length = 1; inline_start || tokens_.SkipOperator("|"); ++length) {
    CheckChain(length);
    inline_start = false;
    const uint32_t line = tokens_.line();
    const std::string name = tokens_.ExpectName();
    const Filter* filter = FindFilter(name);
    if (filter == nullptr) tokens_.Refuse("there is no filter '" + name + "'");
    auto node = std::make_unique<FilterCall>(line, *filter);
    node->input = std::move(input);
    if (tokens_.current().IsOperator("(")) ParseArguments(node->arguments);
    input = std::move(node);
  }
  return input;
}

ExpressionPtr ExpressionParser::ParseTest(ExpressionPtr node) {
  const uint32_t line = tokens_.Take().line;
  const bool negated = tokens_.SkipName("not");
  const std::string name = tokens_.ExpectName();
  const Test* test = FindTest(name);
  if (test == nullptr) tokens_.Refuse("there is no test '" + name + "'");
  auto call = std::make_unique<TestCall>(line, *test);
  call->input = std::move(node);
  call->negated = negated;
  if (tokens_.current().IsOperator("(")) {
    ParseArguments(call->arguments);
  } else if (StartsTestArgument(tokens_.current())) {
    call->arguments.positional.push_back(ParsePostfix(ParsePrimary()));
  }
  return call;
}

}  // namespace kvs::jinja
