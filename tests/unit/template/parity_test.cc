// Every template and construct of tests/template against what Python's jinja2 made of it.
#include <gtest/gtest.h>

#include <cstdlib>
#include <ctime>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>

#include "template/json_value.h"
#include "template/template.h"

namespace kvs::jinja {
namespace {

using Json = nlohmann::ordered_json;

const std::string kFolder = KVS_SOURCE_DIR "/tests/template/";

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file) << path;
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

Json ReadJson(const std::string& path) { return Json::parse(ReadFile(path)); }

// 2025-07-04 12:30:15 local time, as make_expected.py.
std::time_t Now() {
  std::tm date{};
  date.tm_year = 125;
  date.tm_mon = 6;
  date.tm_mday = 4;
  date.tm_hour = 12;
  date.tm_min = 30;
  date.tm_sec = 15;
  date.tm_isdst = -1;
  return std::mktime(&date);
}

// In the form of expected.json; `message` gets what was said of an error.
Json Rendered(const std::string& source, const Json& variables, std::string& message) {
  const auto parsed = Template::Parse(source);
  if (!parsed) {
    message = parsed.error().message();
    return {{"error", true}};
  }
  RenderInputs inputs;
  inputs.now = Now();
  for (const auto& [name, value] : variables.items()) {
    inputs.variables.emplace_back(name, *ParseJsonValue(value.dump(), Origin::kUser));
  }
  const auto text = parsed->Render(inputs);
  if (text) return {{"text", text->bytes()}};
  message = text.error().message();
  const std::string raised = "the chat template says: ";
  if (message.rfind(raised, 0) == 0) return {{"raised", message.substr(raised.size())}};
  return {{"error", true}};
}

void ExpectSame(const std::string& name, const std::string& source, const Json& variables,
                const Json& expected) {
  std::string message;
  const Json found = Rendered(source, variables, message);
  EXPECT_EQ(found, expected) << name << "\n--- got\n"
                             << found.dump(2) << "\n--- jinja2\n"
                             << expected.dump(2) << "\n"
                             << message;
}

Json WithTokens(const Json& variables) {
  Json all = {{"bos_token", "<s>"}, {"eos_token", "</s>"}};
  all.update(variables);
  return all;
}

TEST(Parity, TemplatesAndConstructs) {
  const Json expected = ReadJson(kFolder + "expected.json");
  const Json conversations = ReadJson(kFolder + "conversations.json");
  std::map<std::string, std::string> constructs;
  for (const Json& construct : ReadJson(kFolder + "constructs.json")) {
    constructs[construct[0]] = construct[1];
  }
  const Json context = {{"given", "g"},
                        {"data", {{"z", 1}, {"a", {{"b", {1, "two"}}, {"e", Json::object()}}}}}};
  size_t num_templates = 0;
  for (const Json& entry : expected) {
    const std::string name = entry["name"];
    const std::string group = name.substr(0, name.find('/'));
    const std::string rest = name.substr(group.size() + 1);
    if (group == "construct") {
      ExpectSame(name, constructs.at(rest), WithTokens(context), entry["expected"]);
      continue;
    }
    ++num_templates;
    for (const Json& talk : conversations) {
      if (talk["name"] != rest) continue;
      ExpectSame(name, ReadFile(kFolder + "templates/" + group + ".jinja"),
                 WithTokens(talk["variables"]), entry["expected"]);
    }
  }
  EXPECT_GE(num_templates, 25u * conversations.size());
  EXPECT_GE(conversations.size(), 8u);
}

// Cases that make_expected.py --cases wrote of another folder's templates: KVS_TEMPLATE_CASES.
TEST(Parity, TemplatesFromElsewhere) {
  const char* path = std::getenv("KVS_TEMPLATE_CASES");
  if (path == nullptr) GTEST_SKIP() << "KVS_TEMPLATE_CASES names no file";
  for (const Json& entry : ReadJson(path)) {
    ExpectSame(entry["name"], entry["template"], entry["variables"], entry["expected"]);
  }
}

}  // namespace
}  // namespace kvs::jinja
