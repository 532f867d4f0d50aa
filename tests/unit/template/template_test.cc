// Where each byte came from, limits, and what errors say.
#include "template/template.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <string>

#include "template/json_value.h"

namespace kvs::jinja {
namespace {

RenderInputs InputsOf(const std::string& json) {
  RenderInputs inputs;
  const Value all = *ParseJsonValue(json, Origin::kUser);
  for (const auto& [name, value] : all.dict().entries()) {
    inputs.variables.emplace_back(name.bytes(), value);
  }
  inputs.variables.emplace_back("bos_token", Value::String("<s>", Origin::kTemplate));
  return inputs;
}

// The output with the user's bytes in braces.
std::string Marked(const std::string& source, const std::string& json) {
  const auto parsed = Template::Parse(source);
  EXPECT_TRUE(parsed) << parsed.error().message();
  const auto text = parsed->Render(InputsOf(json));
  EXPECT_TRUE(text) << text.error().message();
  std::string marked;
  text->ForEachRun([&](std::string_view run, Origin origin) {
    marked += origin == Origin::kUser ? fmt::format("{{{}}}", run) : std::string(run);
  });
  return marked;
}

std::string ErrorOf(const std::string& source, const std::string& json = "{}",
                    const RenderLimits& limits = {}) {
  const auto parsed = Template::Parse(source);
  if (!parsed) return parsed.error().message();
  const auto text = parsed->Render(InputsOf(json), limits);
  return text ? "no error: " + text->bytes() : text.error().message();
}

TEST(Origins, LiteralsAndTokensAreTheTemplates) {
  EXPECT_EQ(Marked("{{ bos_token }}[{{ 'lit' ~ x }}]", R"({"x":"<s>"})"), "<s>[lit{<s>}]");
  EXPECT_EQ(Marked("{{ '<|' + role + '|>' }}", R"({"role":"user"})"), "<|{user}|>");
}

TEST(Origins, CuttingAndJoiningKeepThem) {
  const std::string x = R"({"x":" a<think>b</think>c "})";
  EXPECT_EQ(Marked("{{ ('<' ~ x.split('</think>')[-1] ~ '>') | trim }}", x), "<{c }>");
  EXPECT_EQ(Marked("{{ (' T' ~ x).strip() }}", x), "T{ a<think>b</think>c}");
  EXPECT_EQ(Marked("{{ ('T' ~ x)[0:3] }}", x), "T{ a}");
  EXPECT_EQ(Marked("{{ x.replace('<think>', '|T|') }}", x), "{ a}|T|{b</think>c }");
  EXPECT_EQ(Marked("{{ ('t' ~ x) | upper }}", x), "T{ A<THINK>B</THINK>C }");
  EXPECT_EQ(Marked("{{ ['A', x[1], 'B'] | join('-') }}", x), "A-{a}-B");
  EXPECT_EQ(Marked("{% set y %}L{{ x[1] }}L{% endset %}{{ y }}", x), "L{a}L");
  EXPECT_EQ(Marked("{% macro m(a) %}M{{ a }}{% endmacro %}{{ m(x[1]) }}{{ m('t') }}", x), "M{a}Mt");
  EXPECT_EQ(Marked("{{ '%s|%s' % (x[1], 'q') }}{{ '{}!'.format(x[1]) }}", x), "{a}|q{a}!");
  EXPECT_EQ(Marked("{{ ('a\nb' ~ x[1]) | indent(1) }}", x), "a\n b{a}");
  EXPECT_EQ(Marked("{{ ('ab' ~ x[1]) | reverse }}", x), "{a}ba");
}

TEST(Origins, InDoubtTextIsTheUsers) {
  EXPECT_EQ(Marked("{{ ['lit', x] }}|{{ ['lit'] }}", R"({"x":"u"})"), "{['lit', 'u']}|['lit']");
  EXPECT_EQ(Marked("{{ {'a': x} | tojson }}|{{ {'a': 1} | tojson }}", R"({"x":"u"})"),
            R"({{"a": "u"}}|{"a": 1})");
  EXPECT_EQ(Marked("{% for k in d %}{{ k }}{% endfor %}", R"({"d":{"<s>":1}})"), "{<s>}");
}

TEST(Limits, StepsMemoryOutputAndDepth) {
  const RenderLimits few = {1000, 1'000'000, 1000, 100};
  EXPECT_NE(ErrorOf("{% for a in range(9999) %}{% endfor %}", "{}", few).find("steps"),
            std::string::npos);
  EXPECT_NE(ErrorOf("{% for a in range(50) %}" + std::string(100, 'x') + "{% endfor %}", "{}", few)
                .find("the output is over 1000 bytes"),
            std::string::npos);
  EXPECT_NE(ErrorOf("{% set ns = namespace(s='x' * 64) %}{% for a in range(100) %}"
                    "{% set ns.s = ns.s + ns.s %}{% endfor %}",
                    "{}", few)
                .find("bytes of intermediate values"),
            std::string::npos);
  EXPECT_NE(ErrorOf("{% macro m(n) %}{{ m(n) }}{% endmacro %}{{ m(1) }}").find("nested deeper"),
            std::string::npos);
  EXPECT_NE(ErrorOf("{% set ns = namespace(l=[]) %}{% for a in range(500) %}{% set ns.l = [ns.l] "
                    "%}{% endfor %}")
                .find("nested deeper than 128 levels"),
            std::string::npos);
  EXPECT_NE(ErrorOf("{{ 'x' * 999999999 }}").find("repeating"), std::string::npos);
  EXPECT_NE(ErrorOf("{{ " + std::string(3000, '(') + "1" + std::string(3000, ')') + " }}")
                .find("nested too deeply"),
            std::string::npos);
  std::string chain = "{{ 1";
  for (int i = 0; i < 5000; ++i) chain += " + 1";
  EXPECT_NE(ErrorOf(chain + " }}").find("too many operators"), std::string::npos);
}

TEST(Limits, ABudgetIsNotTheClientsFault) {
  const auto parsed = Template::Parse("{% for a in range(9999) %}{% endfor %}");
  ASSERT_TRUE(parsed);
  const auto text = parsed->Render({}, {100, 1'000'000, 100, 100});
  ASSERT_FALSE(text);
  EXPECT_EQ(text.error().code(), Code::kInternal);
}

TEST(Errors, NameLineAndCause) {
  EXPECT_EQ(ErrorOf("a\n{{ 'x' + 1 }}"),
            "the chat template, line 2: can only concatenate str (not \"int\") to str");
  EXPECT_EQ(ErrorOf("\n\n{{ nothing.field }}"),
            "the chat template, line 3: 'nothing' is undefined");
  EXPECT_EQ(ErrorOf("{% if true %}\nx"),
            "the chat template, line 2: the {% if %} of line 1 has no {% endif %}");
  EXPECT_EQ(ErrorOf("{{ 1 | nosuch }}"), "the chat template, line 1: there is no filter 'nosuch'");
  EXPECT_EQ(ErrorOf("{{ raise_exception('Turns must alternate') }}"),
            "the chat template says: Turns must alternate");
  EXPECT_NE(ErrorOf("{% include 'x' %}").find("{% include %} is not known here"),
            std::string::npos);
  EXPECT_EQ(ErrorOf("{{ 'a\xff' }}"), "the chat template is not valid UTF-8 at byte 5");
}

}  // namespace
}  // namespace kvs::jinja
