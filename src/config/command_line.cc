#include "config/command_line.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <string>
#include <string_view>

#include "config/suggest.h"

namespace kvs {
namespace {

// The flag's spellings as CLI11 wants them: "--max-num-seqs,--max_num_seqs", each with `value` for
// a switch.
std::string Spellings(const std::string& name, const std::string& value) {
  std::string underscored = name;
  std::replace(underscored.begin(), underscored.end(), '-', '_');
  std::string names = "--" + name + value;
  if (underscored != name) names += ",--" + underscored + value;
  return names;
}

CLI::Option* AddOption(CLI::App& app, const FlagSpec& spec) {
  if (spec.kind == FlagKind::kSwitch) {
    const std::string name = spec.name;
    return app.add_flag(Spellings(name, "{true}") + "," + Spellings("no-" + name, "{false}"));
  }
  CLI::Option* option = app.add_option(Spellings(spec.name, ""));
  if (spec.kind == FlagKind::kSingle) {
    return option->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  }
  option->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  if (spec.kind == FlagKind::kSeveral) option->expected(1, 1 << 10);
  return option;
}

Status UnknownArgument(const std::string& argument, const std::vector<FlagSpec>& table) {
  if (argument.compare(0, 1, "-") != 0) {
    return Status(Code::kInvalidArgument, fmt::format("unexpected argument '{}'", argument));
  }
  const std::string name = argument.substr(0, argument.find('='));
  std::string dashed = name;
  std::replace(dashed.begin(), dashed.end(), '_', '-');
  std::vector<std::string> names = {"--help", "--help-all", "--version"};
  for (const FlagSpec& spec : table) {
    names.push_back(fmt::format("--{}", spec.name));
    if (spec.kind == FlagKind::kSwitch) names.push_back(fmt::format("--no-{}", spec.name));
  }
  return Status(Code::kInvalidArgument,
                fmt::format("unknown flag {}{}", name, Suggestion(dashed, names)), name);
}

// CLI11 would take the next argument as the value of "--name=".
Result<void> CheckNoEmptyValues(const std::vector<std::string>& arguments) {
  for (const std::string& argument : arguments) {
    if (argument == "--") break;
    if (argument.size() > 3 && argument.compare(0, 2, "--") == 0 && argument.back() == '=' &&
        argument.find('=') == argument.size() - 1) {
      const std::string name = argument.substr(0, argument.size() - 1);
      return Error(Code::kInvalidArgument, fmt::format("{}: needs a value", name), name);
    }
  }
  return {};
}

// What `option` was given; empty when it was not.
Setting SettingOf(const FlagSpec& spec, const CLI::Option& option) {
  Setting setting;
  setting.name = spec.name;
  setting.values = option.results();
  setting.where = fmt::format("--{}", spec.name);
  return setting;
}

}  // namespace

Result<Arguments> ReadArguments(int first, int argc, const char* const* argv,
                                const std::vector<FlagSpec>& table, const char* positional) {
  std::vector<std::string> arguments(argv + std::min(first, argc), argv + argc);
  KVS_RETURN_IF_ERROR(CheckNoEmptyValues(arguments));
  Arguments read;
  try {
    CLI::App app;
    app.set_help_flag();
    app.allow_extras();
    const CLI::Option* help = app.add_flag("-h,--help");
    const CLI::Option* help_all = app.add_flag("--help-all,--help_all");
    const CLI::Option* version = app.add_flag("--version");
    std::vector<const CLI::Option*> options;
    for (const FlagSpec& spec : table) options.push_back(AddOption(app, spec));
    const CLI::Option* operand = app.add_option("operand");
    std::reverse(arguments.begin(), arguments.end());  // as CLI11 takes a vector
    app.parse(std::move(arguments));

    read.help = help->count() > 0;
    read.help_all = help_all->count() > 0;
    read.version = version->count() > 0;
    if (read.help || read.help_all || read.version) return read;
    for (const std::string& unknown : app.remaining()) {
      if (unknown == "--") continue;  // what follows it was read as operands
      return tl::unexpected<Status>(UnknownArgument(unknown, table));
    }
    for (size_t i = 0; i < table.size(); ++i) {
      Setting setting = SettingOf(table[i], *options[i]);
      if (std::string_view(table[i].name) == positional && operand->count() > 0) {
        if (!setting.values.empty()) {
          return Error(Code::kInvalidArgument,
                       fmt::format("{}: given twice, as '{}' and as '{}'", setting.where,
                                   operand->results()[0], setting.values.back()),
                       setting.where);
        }
        setting.values = operand->results();
      }
      if (!setting.values.empty()) read.settings.push_back(std::move(setting));
    }
    return read;
  } catch (const CLI::ArgumentMismatch& error) {
    // "--port: 1 required missing": all that can be wrong is that the value is not there.
    const std::string what = error.what();
    const std::string name = what.substr(0, what.find(':'));
    return Error(Code::kInvalidArgument, fmt::format("{}: needs a value", name), name);
  } catch (const CLI::Error& error) {
    return Error(Code::kInvalidArgument, error.what());
  }
}

}  // namespace kvs
