// The flags of calibrate and eval.
#include <vector>

#include "config/flags.h"

namespace kvs {
namespace {

const std::vector<Choice<KvCacheDType>>& DTypeChoices() {
  static const std::vector<Choice<KvCacheDType>> choices = {
      {"fp8", KvCacheDType::kF8E4M3},      {"fp8_e4m3", KvCacheDType::kF8E4M3},
      {"fp8_e5m2", KvCacheDType::kF8E5M2}, {"bfloat16", KvCacheDType::kBf16},
      {"float16", KvCacheDType::kF16},     {"float32", KvCacheDType::kF32}};
  return choices;
}

// The several types that eval compares.
Flag<EvalCommand> DTypesFlag() {
  FlagSpec spec = {"kv-cache-dtype",
                   FlagGroup::kKvCache,
                   "TYPE",
                   "Types to compare with the model's own: fp8 (= fp8_e4m3), fp8_e5m2, bfloat16, "
                   "float16, float32",
                   kCommon,
                   FlagKind::kSeveral,
                   "fp8"};
  auto set = [](EvalCommand& command, const std::vector<std::string>& values) -> Result<void> {
    command.kv_cache_dtypes.clear();
    for (const std::string& value : values) {
      const auto dtype = ParseChoice<KvCacheDType>(value, DTypeChoices());
      if (!dtype) return tl::unexpected<Status>(dtype.error());
      command.kv_cache_dtypes.push_back(*dtype);
    }
    return {};
  };
  return {std::move(spec), std::move(set)};
}

template <class C>
Flag<C> FileFlag(const char* name, const char* value_name, const char* help,
                 std::string C::*member) {
  return TextFlag<C>({name, FlagGroup::kWorkload, value_name, help, kCommon}, At(member),
                     IsNotEmpty, "a path");
}

template <class C>
void AddSharedFlags(std::vector<Flag<C>>& table) {
  table.push_back(
      TextFlag<C>({"model", FlagGroup::kModel, "MODEL",
                   "Model directory, or org/name on the Hub; the bundled model when none "
                   "is named",
                   kCommon},
                  At(&C::model), IsNotEmpty, "a model directory or org/name"));
  table.push_back(TextFlag<C>({"revision", FlagGroup::kModel, "REVISION",
                               "Branch, tag or commit of a model on the Hub; main when none"},
                              At(&C::revision), IsRevision, kRevisionAllowed));
  table.push_back(WholeFlag<C>({"max-seq-len", FlagGroup::kWorkload, "TOKENS",
                                "Tokens of a sample; the rest is cut off", kCommon},
                               At(&C::max_seq_len), 2, kMaxTokens));
  table.push_back(ChoiceFlag<C, DeviceKind>(
      {"device", FlagGroup::kDevice, "KIND", "What to compute on: auto, cpu, cuda, hip", kCommon},
      At(&C::device, &DeviceOptions::device),
      {{"auto", DeviceKind::kAuto},
       {"cpu", DeviceKind::kCpu},
       {"cuda", DeviceKind::kCuda},
       {"hip", DeviceKind::kHip}}));
  table.push_back(
      WholeFlag<C>({"threads", FlagGroup::kDevice, "N", "CPU threads; 0: one per core", kCommon},
                   At(&C::device, &DeviceOptions::num_threads), 0, 1024));
  table.push_back(InstructionSetFlag<C>(FlagGroup::kDevice, &C::device));
  table.push_back(
      SwitchFlag<C>({"json", FlagGroup::kGeneral, nullptr, "Print JSON", kCommon}, At(&C::json)));
}

}  // namespace

std::vector<Flag<CalibrateCommand>> CalibrateFlags() {
  using C = CalibrateCommand;
  const FlagGroup group = FlagGroup::kWorkload;
  std::vector<Flag<C>> table;
  AddSharedFlags(table);
  table.push_back(FileFlag<C>("dataset", "FILE", "Samples like the requests to come", &C::dataset));
  table.push_back(
      FileFlag<C>("output-dir", "DIR", "Directory to write; must not exist yet", &C::output_dir));
  table.push_back(
      WholeFlag<C>({"num-samples", group, "N", "Samples to take, from the first", kCommon},
                   At(&C::num_samples), 1, 1u << 24));
  table.push_back(ChoiceFlag<C, bool>(
      {"strategy", FlagGroup::kKvCache, "STRATEGY",
       "One scale for K and V of a layer (tensor), or for each KV head (attn_head)", kCommon},
      At(&C::per_head), {{"tensor", false}, {"attn_head", true}}));
  table.push_back(ChoiceFlag<C, KvScaleFit>(
      {"observer", FlagGroup::kKvCache, "OBSERVER",
       "From values to a scale: minmax (nothing is clipped), percentile, mse (least squared error)",
       kCommon},
      At(&C::observer),
      {{"minmax", KvScaleFit::kMinMax},
       {"percentile", KvScaleFit::kPercentile},
       {"mse", KvScaleFit::kMse}}));
  table.push_back(RealFlag<C>({"percentile", FlagGroup::kKvCache, "SHARE",
                               "Share of values the percentile observer does not clip"},
                              At(&C::percentile), 0.5, 1.0));
  table.push_back(WholeFlag<C>({"max-num-batched-tokens", FlagGroup::kScheduler, "TOKENS",
                                "Tokens computed in one step; at least those of a sample"},
                               At(&C::max_num_batched_tokens), 1, 1u << 20));
  table.push_back(SwitchFlag<C>({"compare-prefill", FlagGroup::kGeneral, nullptr,
                                 "Compute each step once more without statistics, and report "
                                 "what share of that speed calibration has"},
                                At(&C::compare_prefill)));
  return table;
}

std::vector<Flag<EvalCommand>> EvalFlags() {
  using C = EvalCommand;
  const FlagGroup group = FlagGroup::kWorkload;
  std::vector<Flag<C>> table;
  AddSharedFlags(table);
  table.push_back(DTypesFlag());
  table.push_back(ListFlag<C>(
      {"scales", FlagGroup::kKvCache, "SET",
       "Sets of scales for FP8: none (1.0), random (tokens), random-head (one for each KV head), "
       "checkpoint, or the path of a calibrated model or a JSON file; the checkpoint's, else none, "
       "when not given",
       kCommon, FlagKind::kSeveral},
      At(&C::scales), IsNotEmpty, "none, random, random-head, checkpoint or a path"));
  table.push_back(ListFlag<C>(
      {"kv-cache-dtype-skip-layers", FlagGroup::kKvCache, "LAYER",
       "Layers of an FP8 cache to keep in BF16, by number from 0", kCommon, FlagKind::kSeveral},
      At(&C::skip_layers), IsNotEmpty, "the number of a layer"));
  table.push_back(
      FileFlag<C>("text", "FILE", "Dataset for perplexity, KL divergence and agreement", &C::text));
  table.push_back(FileFlag<C>(
      "passkey", "FILE", "Dataset of prompts whose answer stands in the context", &C::passkey));
  table.push_back(WholeFlag<C>({"num-samples", group, "N",
                                "Samples of each dataset; of --passkey, for each length", kCommon},
                               At(&C::num_samples), 1, 1u << 24));
  table.push_back(
      FileFlag<C>("output-json", "FILE", "Write the report there as JSON", &C::output_json));
  table.push_back(
      FileFlag<C>("plot", "FILE", "Draw the error of every layer there, as SVG", &C::plot));
  return table;
}

}  // namespace kvs
