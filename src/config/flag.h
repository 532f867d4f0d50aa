// What a flag is: its name and help, and how its text becomes a field. One table of these
// (config/flags) feeds the command line, the environment, the configuration file, --help and the
// manual page's check.
#pragma once

#include <fmt/format.h>

#include <functional>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "config/parse_value.h"
#include "kvserve/status.h"

namespace kvs {

enum class FlagGroup : uint8_t {
  kModel,
  kKvCache,
  kScheduler,
  kHttp,
  kSecurity,
  kLogging,
  kDevice,
  kWorkload,
  kGeneral,
};

enum class FlagKind : uint8_t {
  kSwitch,  // --name and --no-name; in files and variables true or false
  kSingle,  // one value; the last one given counts
  kList,    // may be given several times
  kSeveral  // a list that also takes several values at once
};

struct FlagSpec {
  const char* name;  // with '-'; '_' is accepted in its place everywhere
  FlagGroup group;
  const char* value_name;  // what --help calls the value; null for a switch
  const char* help;        // one sentence without a full stop
  bool common = false;     // listed by --help, not only by --help-all
  FlagKind kind = FlagKind::kSingle;
  std::string default_text = {};  // empty: none worth a word
};

template <class Target>
struct Flag {
  FlagSpec spec;
  // Parses `values` (exactly one unless the kind is a list) into the target's field.
  std::function<Result<void>(Target&, const std::vector<std::string>& values)> set;
};

// Where a value came from, and what it says.
struct Setting {
  std::string name;  // with '-'
  std::vector<std::string> values;
  std::string where;  // "--port", "KVSERVE_PORT", "kvserve.yaml:3: port"
};

namespace internal {

inline std::string TextOf(bool value) { return value ? "true" : "false"; }
inline std::string TextOf(const std::string& value) { return value; }
inline std::string TextOf(double value) {
  std::string text = std::to_string(value);
  text.erase(text.find_last_not_of('0') + 1);
  return text.back() == '.' ? text + '0' : text;
}
template <class T, class = std::enable_if_t<std::is_integral_v<T>>>
std::string TextOf(T value) {
  return std::to_string(value);
}
template <class T>
std::string TextOf(const std::optional<T>& value) {
  return value ? TextOf(*value) : std::string();
}

// `parse` turns one text into what the field can be made from.
template <class Target, class Field, class Parse>
Flag<Target> MakeFlag(FlagSpec spec, Field field, Parse parse) {
  using Value = std::remove_reference_t<decltype(field(std::declval<Target&>()))>;
  auto set = [field, parse](Target& target,
                            const std::vector<std::string>& values) -> Result<void> {
    auto value = parse(values.back());
    if (!value) return tl::unexpected<Status>(std::move(value).error());
    field(target) = static_cast<Value>(*std::move(value));
    return {};
  };
  return {std::move(spec), std::move(set)};
}

template <class Target, class Field>
std::string DefaultOf(Field field) {
  Target fresh{};
  return TextOf(field(fresh));
}

}  // namespace internal

// Where a row's value goes: At(&Command::url), At(&ServerOptions::http, &HttpOptions::port).
template <class Outer, class T>
auto At(T Outer::*member) {
  return [member](Outer& target) -> T& { return target.*member; };
}
template <class Outer, class Inner, class T>
auto At(Inner Outer::*part, T Inner::*member) {
  return [part, member](Outer& target) -> T& { return target.*part.*member; };
}

// Each of these makes one row of a table. `field` is an At; the default that --help shows is what a
// fresh target holds.

template <class Target, class Field>
Flag<Target> SwitchFlag(FlagSpec spec, Field field) {
  spec.kind = FlagKind::kSwitch;
  spec.default_text = internal::DefaultOf<Target>(field);
  return internal::MakeFlag<Target>(std::move(spec), field, ParseBool);
}

template <class Target, class Field>
Flag<Target> WholeFlag(FlagSpec spec, Field field, uint64_t min, uint64_t max) {
  spec.default_text = internal::DefaultOf<Target>(field);
  return internal::MakeFlag<Target>(std::move(spec), field, [min, max](const std::string& text) {
    return ParseWhole(text, min, max);
  });
}

template <class Target, class Field>
Flag<Target> BytesFlag(FlagSpec spec, Field field) {
  const std::string fresh = internal::DefaultOf<Target>(field);
  if (fresh != "0") spec.default_text = fresh;
  return internal::MakeFlag<Target>(std::move(spec), field, ParseBytes);
}

template <class Target, class Field>
Flag<Target> RealFlag(FlagSpec spec, Field field, double min, double max) {
  spec.default_text = internal::DefaultOf<Target>(field);
  return internal::MakeFlag<Target>(std::move(spec), field, [min, max](const std::string& text) {
    return ParseReal(text, min, max);
  });
}

// `is_valid` judges; `allowed` says what it wants.
template <class Target, class Field>
Flag<Target> TextFlag(FlagSpec spec, Field field, bool (*is_valid)(const std::string&),
                      const char* allowed) {
  spec.default_text = internal::DefaultOf<Target>(field);
  return internal::MakeFlag<Target>(
      std::move(spec), field, [is_valid, allowed](const std::string& text) -> Result<std::string> {
        if (is_valid(text)) return text;
        return ExpectedError(allowed, text);
      });
}

// An optional field whose absence is called "auto".
template <class Target, class Field>
Flag<Target> AutoOrWholeFlag(FlagSpec spec, Field field, uint64_t min, uint64_t max) {
  spec.default_text = "auto";
  return internal::MakeFlag<Target>(
      std::move(spec), field,
      [min, max](const std::string& text) -> Result<std::optional<uint64_t>> {
        if (text == "auto") return std::nullopt;
        const auto number = ParseWhole(text, min, max);
        if (number) return *number;
        return ExpectedError(fmt::format("auto or a whole number from {} to {}", min, max), text);
      });
}

// The first choice is the default.
template <class Target, class T, class Field>
Flag<Target> ChoiceFlag(FlagSpec spec, Field field, std::vector<Choice<T>> choices) {
  spec.default_text = std::string(choices.front().name);
  return internal::MakeFlag<Target>(std::move(spec), field,
                                    [choices = std::move(choices)](const std::string& text) {
                                      return ParseChoice<T>(text, choices);
                                    });
}

// A list of texts; `is_valid` judges each. A refused value is not repeated in the message when it
// is a secret.
template <class Target, class Field>
Flag<Target> ListFlag(FlagSpec spec, Field field, bool (*is_valid)(const std::string&),
                      const char* allowed, bool secret = false) {
  auto set = [=](Target& target, const std::vector<std::string>& values) -> Result<void> {
    for (const std::string& value : values) {
      if (!is_valid(value)) return ExpectedError(allowed, secret ? "(not shown)" : value);
    }
    field(target) = values;
    return {};
  };
  return {std::move(spec), std::move(set)};
}

}  // namespace kvs
