// The fields that completions and chat completions share, read and checked one by one.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "http/json_reader.h"
#include "http/openai_parse.h"
#include "http/prompt_parse.h"

namespace kvs {

inline constexpr int64_t kMaxTokensBound = (int64_t{1} << 31) - 1;
inline constexpr size_t kMaxNameBytes = 1024;

// The body as an object; 400 when it is something else.
ApiResult<Json> ParseObject(std::string_view body);

// Refuses what changes the answer and is not offered, where it asks for something; tells the log of
// names that nobody knows.
void CheckFieldNames(const Json& object, std::span<const std::string_view> not_offered,
                     std::span<const std::string_view> known, JsonReader& reader);

// Refusals go to the reader; absent fields leave the value as it was.
void ReadModel(JsonReader& reader, const ParseContext& context, std::string& model);
void ReadSampling(JsonReader& reader, const EngineInfo& info, SamplingParams& sampling);
void ReadStopStrings(JsonReader& reader, std::vector<std::string>& stops);
void ReadStream(JsonReader& reader, CompletionCall& call);
void ReadCounts(JsonReader& reader, CompletionCall& call);

struct Extras {
  std::string cache_salt;
  int64_t priority = 0;
  std::optional<int64_t> seed;
};

// Also the id and how tokens become text, which go to `call`.
Extras ReadExtras(JsonReader& reader, CompletionCall& call);

// One Request per choice. A client's seed gives every prompt what it would get alone. `length`
// names the fields in messages.
ApiResult<void> MakeRequests(const ParseContext& context, const Extras& extras,
                             std::optional<int64_t> max_tokens, const LengthFields& length,
                             SamplingParams sampling, CompletionCall& call);

}  // namespace kvs
