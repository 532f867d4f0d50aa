#include "model/fp8_weights.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <initializer_list>
#include <optional>
#include <string>
#include <system_error>
#include <utility>

#include "kvserve/check.h"
#include "kvserve/float_bits.h"
#include "model/kv_scheme.h"
#include "model/split_work.h"

namespace kvs {
namespace {

constexpr size_t kRowsAtOnce = 16;  // of a thread that dequantizes

uint32_t Squares(uint32_t extent) { return (extent + kFp8Square - 1) / kFp8Square; }

// Looks at the fields of nested objects; the first that cannot be followed is kept.
class SchemeCheck {
 public:
  explicit SchemeCheck(std::string where) : where_(std::move(where)) {}

  // `object[key]` is missing, null, or one of `supported`.
  void Allow(const Json& object, const std::string& path, const char* key,
             std::initializer_list<Json> supported) {
    const auto it = object.find(key);
    if (it == object.end() || it->is_null()) return;
    std::string list;
    for (const Json& value : supported) {
      if (*it == value) return;
      list += (list.empty() ? "" : ", ") + value.dump();
    }
    Refuse(path + key, *it, "supported: " + list);
  }

  void Refuse(const std::string& path, const Json& value, const std::string& expected) {
    if (error_) return;
    error_ = Status(Code::kDataError,
                    fmt::format("{}: {} is {}; {}", where_, path, Excerpt(value), expected));
  }

  Result<void> Done() const {
    if (error_) return tl::unexpected(*error_);
    return {};
  }

 private:
  std::string where_;
  std::optional<Status> error_;
};

// One of compressed-tensors' descriptions of weights or activations.
void CheckArgs(const Json& args, const std::string& path, std::initializer_list<Json> strategies,
               SchemeCheck& check) {
  if (args.is_null()) return;
  if (!args.is_object()) return check.Refuse(path, args, "an object or null is expected");
  check.Allow(args, path + ".", "num_bits", {8});
  check.Allow(args, path + ".", "type", {"float"});
  check.Allow(args, path + ".", "symmetric", {true});
  check.Allow(args, path + ".", "strategy", strategies);
}

void CheckGroups(const Json& quantization, const std::string& at, SchemeCheck& check) {
  const auto groups = quantization.find("config_groups");
  if (groups == quantization.end() || !groups->is_object()) return;
  for (const auto& [name, group] : groups->items()) {
    const std::string path = fmt::format("{}config_groups.{}", at, name.substr(0, 80));
    if (!group.is_object()) {
      check.Refuse(path, group, "an object is expected");
      continue;
    }
    check.Allow(group, path + ".", "format", {"float-quantized", "naive-quantized"});
    CheckArgs(group.value("weights", Json()), path + ".weights", {"tensor", "channel", "block"},
              check);
    CheckArgs(group.value("input_activations", Json()), path + ".input_activations",
              {"tensor", "token", "group"}, check);
  }
}

void CheckQuantizationConfig(const Json& quantization, SchemeCheck& check) {
  const std::string at = "quantization_config.";
  check.Allow(quantization, at, "quant_method", {"compressed-tensors", "modelopt", "fp8"});
  check.Allow(quantization, at, "format", {"float-quantized", "naive-quantized"});
  check.Allow(quantization, at, "quant_algo", {"FP8"});
  check.Allow(quantization, at, "fmt", {"e4m3"});
  check.Allow(quantization, at, "weight_block_size", {Json::array({kFp8Square, kFp8Square})});
  if (const auto sparsity = quantization.find("sparsity_config");
      sparsity != quantization.end() && sparsity->is_object()) {
    check.Allow(*sparsity, at + "sparsity_config.", "format", {"dense"});
  }
  CheckGroups(quantization, at, check);
}

// Whether nothing but the output matrix and the routers of experts is left out.
bool LeavesOutNoLayer(const Json& object, const char* key) {
  const auto names = object.find(key);
  if (names == object.end() || !names->is_array()) return true;
  return std::all_of(names->begin(), names->end(), [](const Json& name) {
    if (!name.is_string()) return false;
    const auto& text = name.get_ref<const std::string&>();
    return text.find("lm_head") != std::string::npos || text.ends_with("gate");
  });
}

// Whether compressed-tensors' groups quantize all linear layers with their inputs, and no weights
// by squares.
bool QuantizesInputs(const Json& quantization) {
  const auto groups = quantization.find("config_groups");
  if (groups == quantization.end() || !groups->is_object()) return false;
  return std::all_of(groups->begin(), groups->end(), [](const Json& group) {
    const Json weights = group.value("weights", Json());
    return group.value("input_activations", Json()).is_object() &&
           !(weights.is_object() && weights.value("strategy", Json()) == "block");
  });
}

// From a quantization_config that has been checked.
std::optional<Fp8Linear> Fp8LinearOf(const Json& quantization) {
  const Json method = quantization.value("quant_method", Json());
  if (method == "compressed-tensors") {
    if (!QuantizesInputs(quantization)) return std::nullopt;
    return Fp8Linear{LeavesOutNoLayer(quantization, "ignore")};
  }
  if (method == "fp8" && quantization.contains("weight_block_size")) return std::nullopt;
  return Fp8Linear{LeavesOutNoLayer(quantization, "ignore") &&
                   LeavesOutNoLayer(quantization, "modules_to_not_convert")};
}

}  // namespace

Result<std::optional<Fp8Linear>> ReadWeightQuantization(const Json& config,
                                                        const std::filesystem::path& model_dir) {
  const std::optional<Fp8Linear> none;
  const auto quantization = config.find("quantization_config");
  if (quantization != config.end() && !quantization->is_null()) {
    SchemeCheck check((model_dir / "config.json").string());
    if (!quantization->is_object()) {
      check.Refuse("quantization_config", *quantization, "an object or null is expected");
    } else if (!QuantizesMoreThanKv(*quantization)) {
      return none;
    } else {
      if (!quantization->contains("quant_method")) {
        check.Refuse("quantization_config", *quantization, "quant_method is missing");
      }
      CheckQuantizationConfig(*quantization, check);
    }
    KVS_RETURN_IF_ERROR(check.Done());
    return Fp8LinearOf(*quantization);
  }
  const std::filesystem::path path = model_dir / kHfQuantConfig;
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) return none;
  const auto json = ReadJsonObject(path, JsonLimits{});
  if (!json) return tl::unexpected(json.error());
  SchemeCheck check(path.string());
  const auto modelopt = json->find("quantization");
  if (modelopt == json->end() || !modelopt->is_object()) return none;
  check.Allow(*modelopt, "quantization.", "quant_algo", {"FP8"});
  KVS_RETURN_IF_ERROR(check.Done());
  if (modelopt->value("quant_algo", Json()) != "FP8") return none;
  return std::optional(Fp8Linear{LeavesOutNoLayer(*modelopt, "exclude_modules")});
}

std::optional<Fp8ScaleLayout> ScaleLayoutOf(std::span<const uint64_t> shape, uint32_t rows,
                                            uint32_t cols) {
  const bool is_scalar =
      std::all_of(shape.begin(), shape.end(), [](uint64_t extent) { return extent == 1; });
  if (is_scalar) return Fp8ScaleLayout{rows, cols};
  const bool is_column = shape.size() == 1 || (shape.size() == 2 && shape[1] == 1);
  if (is_column && shape[0] == rows) return Fp8ScaleLayout{1, cols};
  if (shape.size() == 2 && shape[0] == Squares(rows) && shape[1] == Squares(cols)) {
    return Fp8ScaleLayout{kFp8Square, kFp8Square};
  }
  return std::nullopt;
}

void DequantizeFp8(std::span<const uint8_t> codes, uint32_t rows, uint32_t cols,
                   std::span<const float> scales, const Fp8ScaleLayout& layout, float* out) {
  std::array<float, 256> values;
  for (uint32_t code = 0; code < 256; ++code) {
    values[code] = F8E4M3ToFloat(static_cast<uint8_t>(code));
  }
  const size_t scales_per_row = (size_t{cols} + layout.cols - 1) / layout.cols;
  const size_t scale_rows = (size_t{rows} + layout.rows - 1) / layout.rows;
  KVS_CHECK_OP(codes.size(), ==, size_t{rows} * cols);
  KVS_CHECK_OP(scales.size(), ==, scale_rows * scales_per_row);
  const auto dequantize_row = [&](size_t row) {
    const float* of_row = scales.data() + row / layout.rows * scales_per_row;
    for (size_t first = 0; first < cols; first += layout.cols) {
      const float scale = of_row[first / layout.cols];
      const size_t end = row * cols + std::min<size_t>(first + layout.cols, cols);
      for (size_t i = row * cols + first; i < end; ++i) out[i] = values[codes[i]] * scale;
    }
  };
  SplitWork(rows, kRowsAtOnce, [&](size_t begin, size_t end) {
    for (size_t row = begin; row < end; ++row) dequantize_row(row);
  });
}

}  // namespace kvs
