#include "doctor/machine_checks.h"

#include <fmt/format.h>
#include <netdb.h>
#include <sys/socket.h>

#include <cerrno>
#include <memory>
#include <system_error>

#include "base/file_descriptor.h"
#include "config/kv_pool.h"
#include "model/model.h"

namespace kvs {
namespace {

// Below this the pool holds too little for a server: one sequence of this many tokens.
constexpr uint64_t kTokensWanted = 8192;

std::string Gibibytes(uint64_t bytes) {
  return fmt::format("{:.2f} GiB", static_cast<double>(bytes) / (uint64_t{1} << 30));
}

std::string Versions(const ProbeReport& probe) {
  std::string text = fmt::format("supports {} {}", ToString(probe.info.kind), probe.info.driver);
  if (!probe.kernel_driver.empty()) text += ", kernel module " + probe.kernel_driver;
  return text + fmt::format("; the plugin uses {}", probe.info.runtime);
}

Check CheckFp8(const Fp8SelfTestReport& report) {
  const std::string name = "FP8 " + std::string(ToString(report.dtype));
  if (report.num_failed == 0) {
    return Ok(name, fmt::format("all 256 codes: {} values written and {} read back as specified",
                                report.num_encoded, report.num_decoded));
  }
  std::string first;
  for (const std::string& failure : report.failures) first += "; " + failure;
  return Fail(name,
              fmt::format("{} of {} values are wrong{}", report.num_failed,
                          report.num_encoded + report.num_decoded, first),
              "do not use an FP8 KV cache on this device; report this line, or use --device cpu");
}

using Addresses = std::unique_ptr<addrinfo, decltype(&freeaddrinfo)>;

// 0, or the errno of what could not be done.
int TryToListen(const addrinfo& address) {
  const FileDescriptor listener(
      socket(address.ai_family, address.ai_socktype | SOCK_CLOEXEC, address.ai_protocol));
  const int on = 1;
  const bool bound = listener.valid() &&
                     setsockopt(listener.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
                     bind(listener.get(), address.ai_addr, address.ai_addrlen) == 0 &&
                     listen(listener.get(), 1) == 0;
  return bound ? 0 : errno;
}

}  // namespace

std::vector<Check> CheckDevice(const ProbeReport& probe) {
  const DeviceInfo& info = probe.info;
  std::vector<Check> checks;
  std::string device = fmt::format("{}: {}, {}", ToString(info.kind), info.name, info.architecture);
  if (info.wave_size > 1) device += fmt::format(", waves of {}", info.wave_size);
  device += info.has_fp8_convert ? ", FP8 by instruction" : ", FP8 by integer arithmetic";
  checks.push_back(Ok("device", device));
  checks.push_back(
      Ok("driver", info.kind == DeviceKind::kCpu ? "none is needed" : Versions(probe)));
  for (const Fp8SelfTestReport& report : probe.fp8) checks.push_back(CheckFp8(report));
  if (!probe.fp8_error.empty()) {
    checks.push_back(Fail("FP8", "could not be tested: " + probe.fp8_error,
                          "do what the message says, or use --device cpu"));
  }
  return checks;
}

Check CheckMemory(const ProbeReport& probe, const ModelConfig& config, uint64_t weight_bytes,
                  uint64_t free_host_bytes) {
  const char* name = "memory";
  uint64_t needed = weight_bytes, free = free_host_bytes;
  if (probe.memory) {
    const StepLimits limits = {.max_num_seqs = 128,
                               .max_num_batched_tokens = 2048,
                               .max_model_len = config.max_position_embeddings,
                               .max_num_logits_rows = 256,
                               .block_size = 16};
    needed = Model::DeviceBytes(config, limits, config.checkpoint_dtype, false);
    free = probe.memory->free;
  }
  const std::string both =
      fmt::format("the model takes {} of {} that are free", Gibibytes(needed), Gibibytes(free));
  if (needed >= free) {
    return Fail(name, both,
                "end what else uses the memory, or choose a smaller model or another device");
  }
  const uint64_t token_bytes = LayoutOf(config, 16, KvCacheDType::kBf16).TokenBytes();
  const uint64_t tokens = (free - needed) / token_bytes;
  const std::string left = fmt::format(
      "{}; what is left holds {} tokens of BF16 KV cache, or {} of FP8", both, tokens, 2 * tokens);
  if (tokens >= kTokensWanted) return Ok(name, left);
  return Warn(name, left, "use --kv-cache-dtype fp8, or end what else uses the memory");
}

Check CheckPort(const std::string& host, uint16_t port) {
  const char* name = "port";
  const std::string where = fmt::format("{}:{}", host, port);
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  addrinfo* found = nullptr;
  const int resolved = getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found);
  if (resolved != 0) {
    return Fail(name, fmt::format("{}: {}", where, gai_strerror(resolved)),
                "give --host an address of this machine");
  }
  const Addresses addresses(found, &freeaddrinfo);
  const int error = TryToListen(*addresses);
  if (error == 0) return Ok(name, where + " is free");
  if (error == EADDRINUSE) {
    return Warn(name, where + " is in use", "end what listens there, or serve on another --port");
  }
  return Fail(
      name, fmt::format("{}: {}", where, std::generic_category().message(error)),
      error == EACCES ? "choose a --port from 1024 on" : "give --host an address of this machine");
}

}  // namespace kvs
