#include "doctor/device_probe.h"

#include <nlohmann/json.hpp>

#include "device/kernel_driver.h"
#include "device/open_backend.h"

namespace kvs {
namespace {

using OrderedJson = nlohmann::ordered_json;

Fp8SelfTestShape ShapeFor(const Backend& backend, const ModelConfig* model, uint32_t block_size) {
  Fp8SelfTestShape shape;
  shape.block_size = block_size;
  if (model == nullptr) return shape;
  const Fp8SelfTestShape wanted = {model->head_dim, model->num_heads / model->num_kv_heads,
                                   block_size};
  const KvLayout layout = {1, 1, wanted.head_dim, block_size, KvCacheDType::kF8E4M3};
  return backend.CheckSupport(layout, wanted.num_heads) ? wanted : shape;
}

Result<std::vector<Fp8SelfTestReport>> TestFp8(Backend& backend, const Fp8SelfTestShape& shape) {
  const auto test = Fp8SelfTest::Make(backend, shape);
  if (!test) return tl::unexpected(test.error());
  std::vector<Fp8SelfTestReport> reports;
  for (const KvCacheDType dtype : {KvCacheDType::kF8E4M3, KvCacheDType::kF8E5M2}) {
    auto report = (*test)->Run(dtype);
    if (!report) return tl::unexpected(report.error());
    reports.push_back(std::move(*report));
  }
  return reports;
}

// As ToString gives them; the inverse.
DeviceKind KindOf(const std::string& name) {
  for (const DeviceKind kind : {DeviceKind::kCuda, DeviceKind::kHip}) {
    if (name == ToString(kind)) return kind;
  }
  return DeviceKind::kCpu;
}

OrderedJson DeviceJson(const ProbeReport& report) {
  const DeviceInfo& info = report.info;
  return {{"kind", ToString(info.kind)},
          {"index", info.index},
          {"name", info.name},
          {"architecture", info.architecture},
          {"driver", info.driver},
          {"runtime", info.runtime},
          {"kernel_driver", report.kernel_driver},
          {"wave_size", info.wave_size},
          {"fp8_in_hardware", info.has_fp8_convert},
          {"description", report.description}};
}

OrderedJson Fp8OrderedJson(const Fp8SelfTestReport& report) {
  return {{"dtype", ToString(report.dtype)},
          {"encoded", report.num_encoded},
          {"decoded", report.num_decoded},
          {"failed", report.num_failed},
          {"failures", report.failures}};
}

void ReadDevice(const OrderedJson& json, ProbeReport& report) {
  DeviceInfo& info = report.info;
  info.kind = KindOf(json.at("kind").get<std::string>());
  json.at("index").get_to(info.index);
  json.at("name").get_to(info.name);
  json.at("architecture").get_to(info.architecture);
  json.at("driver").get_to(info.driver);
  json.at("runtime").get_to(info.runtime);
  json.at("wave_size").get_to(info.wave_size);
  json.at("fp8_in_hardware").get_to(info.has_fp8_convert);
  json.at("kernel_driver").get_to(report.kernel_driver);
  json.at("description").get_to(report.description);
}

void ReadFp8(const OrderedJson& json, ProbeReport& report) {
  for (const OrderedJson& entry : json) {
    Fp8SelfTestReport& fp8 = report.fp8.emplace_back();
    fp8.dtype = entry.at("dtype").get<std::string>() == ToString(KvCacheDType::kF8E5M2)
                    ? KvCacheDType::kF8E5M2
                    : KvCacheDType::kF8E4M3;
    entry.at("encoded").get_to(fp8.num_encoded);
    entry.at("decoded").get_to(fp8.num_decoded);
    entry.at("failed").get_to(fp8.num_failed);
    entry.at("failures").get_to(fp8.failures);
  }
}

}  // namespace

Result<ProbeReport> ProbeDevice(const DeviceOptions& device, const ModelConfig* model,
                                uint32_t block_size) {
  const DType dtype = model != nullptr ? model->checkpoint_dtype : DType::kBf16;
  const auto backend = OpenBackend({.device = device, .dtype = dtype, .cache_dir = {}});
  if (!backend) return tl::unexpected(backend.error());
  ProbeReport report;
  report.info = (*backend)->Info();
  report.kernel_driver = KernelDriverVersion(report.info.kind);
  report.description = (*backend)->Describe();
  report.memory = (*backend)->device_memory();
  auto fp8 = TestFp8(**backend, ShapeFor(**backend, model, block_size));
  if (fp8) {
    report.fp8 = *std::move(fp8);
  } else {
    report.fp8_error = fp8.error().message();
  }
  return report;
}

std::string ProbeJson(const Result<ProbeReport>& report) {
  OrderedJson json;
  if (!report) {
    json["error"] = {{"exit_code", ExitCodeOf(report.error().code())},
                     {"message", report.error().message()}};
    return json.dump(-1, ' ', false, OrderedJson::error_handler_t::replace) + "\n";
  }
  json["device"] = DeviceJson(*report);
  json["memory"] = nullptr;
  if (report->memory) {
    json["memory"] = {{"total_bytes", report->memory->total}, {"free_bytes", report->memory->free}};
  }
  json["fp8"] = OrderedJson::array();
  for (const Fp8SelfTestReport& fp8 : report->fp8) json["fp8"].push_back(Fp8OrderedJson(fp8));
  json["fp8_error"] = report->fp8_error;
  return json.dump(-1, ' ', false, OrderedJson::error_handler_t::replace) + "\n";
}

Result<ProbeReport> ParseProbe(const std::string& text) {
  try {
    const OrderedJson json = OrderedJson::parse(text);
    if (json.contains("error")) {
      return Error(Code::kUnavailable, json.at("error").at("message").get<std::string>());
    }
    ProbeReport report;
    ReadDevice(json.at("device"), report);
    const OrderedJson& memory = json.at("memory");
    if (!memory.is_null()) {
      report.memory = DeviceMemory{memory.at("total_bytes").get<uint64_t>(),
                                   memory.at("free_bytes").get<uint64_t>()};
    }
    ReadFp8(json.at("fp8"), report);
    json.at("fp8_error").get_to(report.fp8_error);
    return report;
  } catch (const OrderedJson::exception& error) {
    return Error(Code::kInternal,
                 std::string("the probe's report cannot be read: ") + error.what());
  }
}

}  // namespace kvs
