#include "doctor/isolation_record.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string_view>
#include <system_error>

#include "base/file_descriptor.h"

namespace kvs {
namespace {

namespace fs = std::filesystem;
using OrderedJson = nlohmann::ordered_json;

constexpr size_t kNamePartMax = 48;

// Letters, digits, '.' and '-' of `text`; runs of anything else become one '_'.
std::string FileNamePart(std::string_view text) {
  std::string part;
  for (const char c : text.substr(0, kNamePartMax)) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == '.' || c == '-';
    if (plain) {
      part += c;
    } else if (!part.empty() && part.back() != '_') {
      part += '_';
    }
  }
  return part;
}

std::string ToJson(const IsolationRecord& record) {
  const OrderedJson json = {{"format", 1},
                            {"device", record.key.device},
                            {"architecture", record.key.architecture},
                            {"driver", record.key.driver},
                            {"kvserve", record.key.version},
                            {"kv_cache_dtype", ToString(record.key.fp8_dtype)},
                            {"mode", record.key.mode},
                            {"passed", record.passed},
                            {"reading", record.reading},
                            {"model", record.model},
                            {"time", record.time}};
  return json.dump(2, ' ', false, OrderedJson::error_handler_t::replace) + "\n";
}

std::string TextOr(const OrderedJson& json, const char* name) {
  const auto found = json.find(name);
  return found != json.end() && found->is_string() ? found->get<std::string>() : std::string();
}

std::optional<IsolationRecord> FromJson(const std::string& text) {
  const OrderedJson json = OrderedJson::parse(text, nullptr, false);
  if (!json.is_object()) return std::nullopt;
  const auto passed = json.find("passed");
  if (passed == json.end() || !passed->is_boolean()) return std::nullopt;
  IsolationRecord record;
  const bool e5m2 = TextOr(json, "kv_cache_dtype") == ToString(KvCacheDType::kF8E5M2);
  record.key = {TextOr(json, "device"),
                TextOr(json, "architecture"),
                TextOr(json, "driver"),
                TextOr(json, "kvserve"),
                e5m2 ? KvCacheDType::kF8E5M2 : KvCacheDType::kF8E4M3,
                TextOr(json, "mode")};
  record.passed = passed->get<bool>();
  record.reading = TextOr(json, "reading");
  record.model = TextOr(json, "model");
  record.time = TextOr(json, "time");
  return record;
}

tl::unexpected<Status> CannotWrite(const fs::path& path, const std::string& reason) {
  return Error(Code::kOsError, fmt::format("cannot write '{}': {}", path.string(), reason));
}

bool WriteAll(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = write(fd, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return false;
    text.remove_prefix(static_cast<size_t>(written));
  }
  return true;
}

}  // namespace

DeviceInfo WithSimulation(DeviceInfo info, const DeviceOptions& options) {
  if (options.simulate_architecture.empty()) return info;
  info.architecture = options.simulate_architecture;
  info.name = "simulated " + options.simulate_architecture;
  return info;
}

std::string IsolationModeOf(const DeviceOptions& options) {
  std::string mode = options.batch_invariant ? "--batch-invariant" : "";
  if (options.enforce_eager) mode += mode.empty() ? "--enforce-eager" : " --enforce-eager";
  return mode;
}

IsolationKey IsolationKeyOf(const DeviceInfo& info, const std::string& kernel_driver,
                            const std::string& version, KvCacheDType fp8_dtype,
                            const std::string& mode) {
  std::string driver = info.driver;
  if (!kernel_driver.empty()) {
    driver += (driver.empty() ? "" : ", ") + ("kernel module " + kernel_driver);
  }
  return {info.name, info.architecture, driver, version, fp8_dtype, mode};
}

fs::path IsolationRecordPath(const fs::path& state_dir, const IsolationKey& key) {
  std::string name = fmt::format("isolation_{}_{}_{}_{}_{}", FileNamePart(key.architecture),
                                 FileNamePart(key.device), FileNamePart(key.driver),
                                 FileNamePart(key.version), ToString(key.fp8_dtype));
  if (!key.mode.empty()) name += "_" + FileNamePart(key.mode);
  return state_dir / (name + ".json");
}

Result<void> WriteIsolationRecord(const fs::path& state_dir, const IsolationRecord& record) {
  std::error_code error;
  fs::create_directories(state_dir, error);
  if (error) return CannotWrite(state_dir, error.message());
  const fs::path path = IsolationRecordPath(state_dir, record.key);
  std::string temporary = path.string() + ".XXXXXX";
  const FileDescriptor file(mkostemp(temporary.data(), O_CLOEXEC));
  if (!file.valid()) return CannotWrite(path, std::generic_category().message(errno));
  // Readable by the daemon's user, whoever ran the doctor.
  const bool written = fchmod(file.get(), 0644) == 0 && WriteAll(file.get(), ToJson(record)) &&
                       fsync(file.get()) == 0 && rename(temporary.c_str(), path.c_str()) == 0;
  if (!written) {
    const std::string reason = std::generic_category().message(errno);
    unlink(temporary.c_str());
    return CannotWrite(path, reason);
  }
  const FileDescriptor folder(open(state_dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (folder.valid()) fsync(folder.get());  // the name; some file systems cannot, and need not
  return {};
}

std::optional<IsolationRecord> ReadIsolationRecord(const fs::path& state_dir,
                                                   const IsolationKey& key) {
  std::ifstream file(IsolationRecordPath(state_dir, key), std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  auto record = FromJson(text);
  if (!record || !(record->key == key)) return std::nullopt;
  return record;
}

}  // namespace kvs
