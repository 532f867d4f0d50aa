// ParseCommand: which command, and its settings from flag, environment, file and default.
#include <fmt/format.h>

#include <array>
#include <filesystem>
#include <string_view>

#include "config/command_line.h"
#include "config/config.h"
#include "config/config_file.h"
#include "config/environment.h"
#include "config/flags.h"
#include "config/help.h"

namespace kvs {
namespace {

constexpr char kVersionText[] = "kvserve " KVS_VERSION "\n";
constexpr std::string_view kServeUsage =
    R"(Usage: kvserve [serve] [MODEL] [flags]   serve MODEL through an OpenAI-compatible API
       kvserve check-cache URL [flags]   test that a server reuses cached prefixes
       kvserve bench URL [flags]         load a server and print latencies and throughput
       kvserve plan [MODEL] [flags]      KV cache arithmetic without starting
       kvserve calibrate [MODEL] [flags] write a copy of MODEL with scales for an FP8 KV cache
       kvserve eval [MODEL] [flags]      what a KV cache type costs in quality, layer by layer
       kvserve doctor [MODEL] [flags]    check device, model and the pair FP8 x prefix caching
       kvserve [COMMAND] --help          --help-all lists every flag; --version

MODEL is a directory, or org/name on the Hugging Face Hub; without one the bundled model is served.
Each flag --some-name is also the variable KVSERVE_SOME_NAME and the key some_name of the --config
file. Defaults in [ ].

)";
constexpr std::string_view kCheckCacheUsage =
    R"(Usage: kvserve check-cache URL [flags]

Sends one long prompt twice and judges whether its prefix was reused. Exit code 0: PASS, 1: FAIL.

)";
constexpr std::string_view kBenchUsage =
    R"(Usage: kvserve bench URL [flags]

Sends a workload to any OpenAI-compatible server and prints time to first token, inter-token
latency, throughput and prefix hit rate.

)";
constexpr std::string_view kPlanUsage =
    R"(Usage: kvserve plan [MODEL] [flags]

Prints, for each KV dtype, bytes per token, the tokens a pool holds and how many sequences fit.

)";

constexpr std::string_view kCalibrateUsage =
    R"(Usage: kvserve calibrate [MODEL] --dataset FILE --output-dir DIR [flags]

Runs a dataset through MODEL and writes DIR: the same weights with one KV scale per layer (or per
KV head), as compressed-tensors names them. kvserve, vLLM and SGLang load it directly. A run that
was interrupted goes on when the same command is given again.

FILE: JSON lines or a JSON list with "text", "messages" or ShareGPT's "conversations", or plain
text.

)";
constexpr std::string_view kEvalUsage =
    R"(Usage: kvserve eval [MODEL] [--text FILE] [--passkey FILE] [flags]

Compares KV cache types and sets of scales with the cache the model was made for: perplexity, KL
divergence and agreement on --text, retrieval by context length on --passkey, and the error and the
clipped values of every layer.

)";

constexpr std::string_view kDoctorUsage =
    R"(Usage: kvserve doctor [MODEL] [flags]

Checks device, driver, memory, port, model files, tokenizer and KV scales, all codes of the FP8
types on the device, and then four short-lived servers with the same requests: neither an FP8 KV
cache nor prefix caching, each alone, both. One line per check: OK, WARN or FAIL with what to do.
Exit code 0: no FAIL, 1: at least one, 130: interrupted.

)";

template <class Target>
std::vector<FlagSpec> SpecsOf(const std::vector<Flag<Target>>& flags) {
  std::vector<FlagSpec> specs;
  for (const Flag<Target>& flag : flags) specs.push_back(flag.spec);
  return specs;
}

// Puts each setting into the target. An error is prefixed with where the value stood.
template <class Target>
Result<void> Apply(const std::vector<Setting>& settings, const std::vector<Flag<Target>>& flags,
                   Code code, Target& target) {
  for (const Setting& setting : settings) {
    for (const Flag<Target>& flag : flags) {
      if (setting.name != flag.spec.name) continue;
      const Result<void> done = flag.set(target, setting.values);
      if (!done) {
        return Error(code, fmt::format("{}: {}", setting.where, done.error().message()),
                     "--" + setting.name);
      }
    }
  }
  return {};
}

const Setting* Find(const std::vector<Setting>& settings, std::string_view name) {
  for (const Setting& setting : settings) {
    if (setting.name == name) return &setting;
  }
  return nullptr;
}

// `--served-model-name a b DIR` reads DIR as a third name; serving another model than the one meant
// would be worse than an error.
Result<void> CheckModelIsNotAName(const std::vector<Setting>& arguments) {
  const Setting* names = Find(arguments, "served-model-name");
  if (names == nullptr || names->values.size() < 2 || Find(arguments, "model") != nullptr)
    return {};
  std::error_code error;
  if (!std::filesystem::is_directory(names->values.back(), error)) return {};
  return Error(Code::kInvalidArgument,
               fmt::format("--served-model-name: got the directory '{}' as a name; put the model "
                           "before the flags, or give it with --model",
                           names->values.back()),
               "--served-model-name");
}

Result<Command> ParseServe(int first, int argc, const char* const* argv) {
  const std::vector<Flag<ServeSettings>> flags = ServeFlags();
  const std::vector<FlagSpec> specs = SpecsOf(flags);
  const auto arguments = ReadArguments(first, argc, argv, specs, "model");
  if (!arguments) return tl::unexpected<Status>(arguments.error());
  if (arguments->version) return PrintCommand{kVersionText};
  if (arguments->help || arguments->help_all) {
    return PrintCommand{std::string(kServeUsage) + FlagHelp(specs, arguments->help_all)};
  }
  KVS_RETURN_IF_ERROR(CheckModelIsNotAName(arguments->settings));
  const auto variables = ReadEnvironment(ProcessEnvironment(), specs);
  if (!variables) return tl::unexpected<Status>(variables.error());

  // Later ones count over earlier ones.
  ServeSettings asked;
  KVS_RETURN_IF_ERROR(Apply(*variables, flags, Code::kConfigError, asked));
  KVS_RETURN_IF_ERROR(Apply(arguments->settings, flags, Code::kInvalidArgument, asked));
  if (asked.config_file.empty()) return ServeCommand{static_cast<const ServerOptions&>(asked)};
  const auto file = ReadConfigFile(asked.config_file, specs);
  if (!file) return tl::unexpected<Status>(file.error());
  ServeSettings merged;
  KVS_RETURN_IF_ERROR(Apply(*file, flags, Code::kConfigError, merged));
  KVS_RETURN_IF_ERROR(Apply(*variables, flags, Code::kConfigError, merged));
  KVS_RETURN_IF_ERROR(Apply(arguments->settings, flags, Code::kInvalidArgument, merged));
  return ServeCommand{static_cast<const ServerOptions&>(merged)};
}

// A command with a table of its own, which reads no file. Of the environment it takes the API key
// alone: the rest describes a server.
template <class Target>
Result<Command> ParseOther(int argc, const char* const* argv,
                           const std::vector<Flag<Target>>& flags, const char* positional,
                           std::string_view usage) {
  const std::vector<FlagSpec> specs = SpecsOf(flags);
  const auto arguments = ReadArguments(2, argc, argv, specs, positional);
  if (!arguments) return tl::unexpected<Status>(arguments.error());
  if (arguments->version) return PrintCommand{kVersionText};
  if (arguments->help || arguments->help_all) {
    return PrintCommand{std::string(usage) + FlagHelp(specs, true)};
  }
  Target command;
  for (const char* const* entry = ProcessEnvironment(); *entry != nullptr; ++entry) {
    constexpr std::string_view kKey = "KVSERVE_API_KEY=";
    const std::string_view text = *entry;
    if (text.substr(0, kKey.size()) != kKey) continue;
    const std::string key(text.substr(kKey.size(), text.find(',') - kKey.size()));
    KVS_RETURN_IF_ERROR(
        Apply({{"api-key", {key}, "KVSERVE_API_KEY"}}, flags, Code::kConfigError, command));
  }
  KVS_RETURN_IF_ERROR(Apply(arguments->settings, flags, Code::kInvalidArgument, command));
  return command;
}

Result<Command> ParseCalibrate(int argc, const char* const* argv) {
  auto parsed = ParseOther(argc, argv, CalibrateFlags(), "model", kCalibrateUsage);
  const auto* asked = parsed ? std::get_if<CalibrateCommand>(&*parsed) : nullptr;
  if (asked == nullptr) return parsed;
  const std::pair<const char*, bool> needed[] = {{"--dataset", asked->dataset.empty()},
                                                 {"--output-dir", asked->output_dir.empty()}};
  for (const auto& [flag, is_missing] : needed) {
    if (!is_missing) continue;
    return Error(Code::kInvalidArgument, fmt::format("kvserve calibrate: {} is needed", flag),
                 flag);
  }
  return parsed;
}

Result<Command> ParseEval(int argc, const char* const* argv) {
  auto parsed = ParseOther(argc, argv, EvalFlags(), "model", kEvalUsage);
  const auto* asked = parsed ? std::get_if<EvalCommand>(&*parsed) : nullptr;
  if (asked == nullptr || !asked->text.empty() || !asked->passkey.empty()) return parsed;
  return Error(Code::kInvalidArgument,
               "kvserve eval: nothing to evaluate on; give --text FILE, --passkey FILE or both",
               "--text");
}

// check-cache and bench have nobody to talk to without a URL.
Result<Command> NeedUrl(Result<Command> parsed, const char* command) {
  if (!parsed) return parsed;
  const std::string* url = nullptr;
  if (const auto* check = std::get_if<CheckCacheCommand>(&*parsed)) url = &check->url;
  if (const auto* bench = std::get_if<BenchCommand>(&*parsed)) url = &bench->url;
  if (url == nullptr || !url->empty()) return parsed;
  return Error(Code::kInvalidArgument,
               fmt::format("kvserve {}: expected a URL such as http://127.0.0.1:8000", command),
               "--url");
}

}  // namespace

Result<Command> ParseCommand(int argc, const char* const* argv) {
  const std::string_view name = argc > 1 ? argv[1] : "";
  if (name == "check-cache") {
    return NeedUrl(ParseOther(argc, argv, CheckCacheFlags(), "url", kCheckCacheUsage),
                   "check-cache");
  }
  if (name == "bench") {
    return NeedUrl(ParseOther(argc, argv, BenchFlags(), "url", kBenchUsage), "bench");
  }
  if (name == "plan") return ParseOther(argc, argv, PlanFlags(), "model", kPlanUsage);
  if (name == "calibrate") return ParseCalibrate(argc, argv);
  if (name == "eval") return ParseEval(argc, argv);
  if (name == "doctor") return ParseOther(argc, argv, DoctorFlags(), "model", kDoctorUsage);
  return ParseServe(name == "serve" ? 2 : 1, argc, argv);
}

}  // namespace kvs
