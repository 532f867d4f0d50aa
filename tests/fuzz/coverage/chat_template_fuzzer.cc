// The input is a Jinja template, optionally followed by a zero byte and the JSON of its messages.
// What it renders must be UTF-8, with origins that lie in it, within the limits.
#include <algorithm>
#include <string_view>

#include "kvserve/check.h"
#include "template/json_value.h"
#include "template/template.h"
#include "tokenize/utf8.h"

using kvs::jinja::ByteSpan;
using kvs::jinja::Origin;
using kvs::jinja::ParseJsonValue;

namespace {

constexpr char kMessages[] = R"([{"role":"user","content":"a <s> b"},)"
                             R"({"role":"assistant","content":[{"type":"text","text":"c"}]}])";

kvs::jinja::RenderInputs InputsOf(std::string_view messages) {
  kvs::jinja::RenderInputs inputs;
  auto value = ParseJsonValue(messages, Origin::kUser);
  if (!value) value = ParseJsonValue(kMessages, Origin::kUser);
  inputs.variables.emplace_back("messages", *value);
  inputs.variables.emplace_back("x", kvs::jinja::Value::String("user's", Origin::kUser));
  inputs.variables.emplace_back("add_generation_prompt", true);
  return inputs;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t end = std::min(input.find('\0'), size);
  const auto parsed = kvs::jinja::Template::Parse(input.substr(0, end));
  if (!parsed) {
    KVS_CHECK(!parsed.error().message().empty());
    return 0;
  }
  const kvs::jinja::RenderLimits limits = {20'000, 4u << 20, 1u << 20, 200};
  const auto text = parsed->Render(InputsOf(input.substr(std::min(end + 1, size))), limits);
  if (!text) {
    KVS_CHECK(!text.error().message().empty());
    return 0;
  }
  KVS_CHECK(text->size() <= limits.max_output_bytes);
  KVS_CHECK(!kvs::FindInvalidUtf8(text->bytes()));
  size_t done = 0;
  for (const ByteSpan& span : text->user_spans()) {
    KVS_CHECK(done <= span.begin && span.begin < span.end && span.end <= text->size());
    done = span.end;
  }
  return 0;
}
