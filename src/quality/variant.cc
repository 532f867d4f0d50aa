#include "quality/variant.h"

#include <fmt/format.h>

#include <set>
#include <system_error>
#include <utility>

#include "config/parse_value.h"
#include "model/checkpoint.h"
#include "model/kv_calibration.h"
#include "model/kv_scale_reader.h"

namespace kvs {
namespace {

Result<Variant> NewVariant(const KvLayout& layout, uint32_t num_blocks,
                           const std::vector<uint32_t>& bf16_layers, Backend& backend) {
  auto cache = KvCache::Make(layout, num_blocks, bf16_layers, backend);
  if (!cache) return tl::unexpected(cache.error());
  auto observer = KvObserver::Make(layout, /*with_counts=*/true, backend);
  if (!observer) return tl::unexpected(observer.error());
  return Variant{.name = std::string(ToString(layout.dtype)),
                 .cache = *std::move(cache),
                 .observer = *std::move(observer),
                 .statistics = KvStatistics(layout)};
}

// The scales of a model directory; empty when it has none.
Result<std::optional<KvScaleSet>> ScalesOfDirectory(const std::filesystem::path& dir,
                                                    const KvLayout& layout,
                                                    const std::vector<uint32_t>& skip) {
  const auto config = ReadModelConfig(dir);
  if (!config) return tl::unexpected(config.error());
  auto checkpoint = Checkpoint::Open(dir);
  if (!checkpoint) return tl::unexpected(checkpoint.error());
  auto scales =
      ReadKvScales(**checkpoint, layout, skip, config->kv_scheme && config->kv_scheme->fnuz);
  if (!scales) return tl::unexpected(scales.error().WithContext(dir.string()));
  return scales;
}

// Gives the variant the scales called `name`.
Result<void> GiveScales(const std::string& name, const ModelLoadOptions& load,
                        const std::vector<uint32_t>& skip, Model& model, Backend& backend,
                        Variant& variant) {
  const KvLayout layout = variant.cache.layout();
  if (name == "none") return {};
  if (name == "random" || name == "random-head") {
    ModelLoadOptions on_random_tokens = load;
    on_random_tokens.kv_scales_per_head = name == "random-head";
    std::swap(model.kv_cache(), variant.cache);
    auto done = CalculateKvScales(on_random_tokens, model, backend);
    std::swap(model.kv_cache(), variant.cache);
    return done;
  }
  std::error_code ignored;
  if (name != "checkpoint" && !std::filesystem::is_directory(name, ignored)) {
    const auto of_file = ReadKvScaleFile(name, layout);
    if (!of_file) return tl::unexpected(of_file.error().WithContext("--scales"));
    variant.cache.SetScales(*of_file, backend);
    return {};
  }
  const std::filesystem::path dir =
      name == "checkpoint" ? load.model_dir : std::filesystem::path(name);
  const auto scales = ScalesOfDirectory(dir, layout, skip);
  if (!scales) return tl::unexpected(scales.error());
  if (!*scales) {
    return Error(Code::kDataError,
                 fmt::format("--scales: '{}' holds none; see kvserve calibrate", dir.string()),
                 "--scales");
  }
  variant.cache.SetScales(**scales, backend);
  return {};
}

Result<std::vector<uint32_t>> SkipLayers(const std::vector<std::string>& asked,
                                         uint32_t num_layers) {
  std::set<uint32_t> layers;
  for (const std::string& text : asked) {
    const auto layer = ParseWhole(text, 0, num_layers - 1);
    if (!layer) {
      return tl::unexpected<Status>(layer.error().WithContext("--kv-cache-dtype-skip-layers"));
    }
    layers.insert(static_cast<uint32_t>(*layer));
  }
  return std::vector<uint32_t>(layers.begin(), layers.end());
}

// The sets asked for, or those of the checkpoint, or none.
Result<std::vector<std::string>> ScaleNames(const EvalCommand& command,
                                            const ModelLoadOptions& load, const KvLayout& layout,
                                            const std::vector<uint32_t>& skip) {
  if (!command.scales.empty()) return command.scales;
  const auto own = ScalesOfDirectory(load.model_dir, layout, skip);
  if (!own) return tl::unexpected(own.error());
  return std::vector<std::string>{*own ? "checkpoint" : "none"};
}

}  // namespace

Result<std::vector<Variant>> MakeVariants(const EvalCommand& command, const ModelLoadOptions& load,
                                          uint32_t num_blocks, Model& model, Backend& backend) {
  const KvLayout own = model.kv_layout();
  const auto skip = SkipLayers(command.skip_layers, own.num_layers);
  if (!skip) return tl::unexpected(skip.error());
  std::vector<Variant> variants;
  auto reference = NewVariant(own, num_blocks, {}, backend);
  if (!reference) return tl::unexpected(reference.error());
  variants.push_back(*std::move(reference));

  std::vector<KvCacheDType> dtypes = command.kv_cache_dtypes;
  if (dtypes.empty()) dtypes = {KvCacheDType::kF8E4M3};
  for (const KvCacheDType dtype : dtypes) {
    KvLayout layout = own.As(dtype);
    if (IsFp8(dtype)) layout.num_bf16_layers = static_cast<uint32_t>(skip->size());
    const auto names = IsFp8(dtype) ? ScaleNames(command, load, layout, *skip)
                                    : Result<std::vector<std::string>>({""});
    if (!names) return tl::unexpected(names.error());
    for (const std::string& name : *names) {
      auto variant =
          NewVariant(layout, num_blocks, IsFp8(dtype) ? *skip : std::vector<uint32_t>(), backend);
      if (!variant) return tl::unexpected(variant.error());
      if (!name.empty()) {
        variant->scales = name;
        variant->name += " " + name;
        KVS_RETURN_IF_ERROR(GiveScales(name, load, *skip, model, backend, *variant));
      }
      variants.push_back(*std::move(variant));
    }
  }
  return variants;
}

}  // namespace kvs
