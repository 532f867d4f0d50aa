#include "base/log.h"

#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <memory>

namespace kvs {
namespace {

constexpr const char* kTextPattern = "%Y-%m-%d %H:%M:%S.%e %^%l%$ %v";
constexpr const char* kJsonPattern =
    R"({"time":"%Y-%m-%dT%H:%M:%S.%e%z","level":"%l","message":"%v"})";

spdlog::level::level_enum LevelOf(LogLevel level) {
  switch (level) {
    case LogLevel::kTrace:
      return spdlog::level::trace;
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarning:
      return spdlog::level::warn;
    case LogLevel::kError:
      return spdlog::level::err;
  }
  return spdlog::level::info;
}

// Replaced once by InitLog, before any second thread exists.
std::shared_ptr<spdlog::logger>& Logger() {
  static std::shared_ptr<spdlog::logger> logger = [] {
    auto made = std::make_shared<spdlog::logger>("kvserve",
                                                 std::make_shared<spdlog::sinks::stderr_sink_mt>());
    made->set_pattern(kTextPattern);
    return made;
  }();
  return logger;
}

bool g_json = false;

// Of a text that EscapeControl made: valid UTF-8 whose only control character is the tab.
std::string JsonEscape(std::string_view text) {
  std::string out;
  out.reserve(text.size() + 8);
  for (const char c : text) {
    if (c == '\t') {
      out += "\\t";
      continue;
    }
    if (c == '"' || c == '\\') out.push_back('\\');
    out.push_back(c);
  }
  return out;
}

// A character at the front of `text` as UTF-8 (RFC 3629, table of section 4): its bytes and code
// point; 0 bytes where none starts there (stray or overlong byte, surrogate, cut short).
struct Utf8Char {
  size_t num_bytes;
  uint32_t code_point;
};

Utf8Char FirstUtf8Char(std::string_view text) {
  const auto lead = static_cast<unsigned char>(text[0]);
  if (lead < 0x80) return {1, lead};
  const size_t num_bytes = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  if (lead < 0xc2 || lead > 0xf4 || text.size() < num_bytes) return {0, 0};
  uint32_t code_point = lead & (0x7fu >> num_bytes);
  for (size_t i = 1; i < num_bytes; ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if ((byte & 0xc0) != 0x80) return {0, 0};
    code_point = code_point << 6 | (byte & 0x3fu);
  }
  constexpr uint32_t kSmallest[] = {0, 0, 0x80, 0x800, 0x10000};
  const bool surrogate = code_point >= 0xd800 && code_point <= 0xdfff;
  if (code_point < kSmallest[num_bytes] || surrogate || code_point > 0x10ffff) return {0, 0};
  return {num_bytes, code_point};
}

bool IsControl(uint32_t code_point) {
  return (code_point < 0x20 && code_point != '\t') || (code_point >= 0x7f && code_point < 0xa0) ||
         code_point == 0x2028 || code_point == 0x2029;  // line and paragraph separator
}

}  // namespace

void InitLog(const LogOptions& options) {
  auto& logger = Logger();
  g_json = options.format == LogFormat::kJson ||
           (options.format == LogFormat::kAuto && isatty(STDERR_FILENO) == 0);
  logger->set_pattern(g_json ? kJsonPattern : kTextPattern);
  logger->set_level(spdlog::level::from_str(options.level));
  logger->flush_on(spdlog::level::trace);
}

bool LogEnabled(LogLevel level) { return Logger()->should_log(LevelOf(level)); }

void LogMessage(LogLevel level, std::string_view message) {
  std::string clean = EscapeControl(message.substr(0, kMaxLogMessageBytes));
  if (message.size() > kMaxLogMessageBytes) {
    clean += fmt::format(" ... ({} bytes more)", message.size() - kMaxLogMessageBytes);
  }
  Logger()->log(LevelOf(level), "{}", g_json ? JsonEscape(clean) : clean);
}

std::string EscapeControl(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const Utf8Char first = FirstUtf8Char(text);
    const size_t num_bytes = first.num_bytes == 0 ? 1 : first.num_bytes;
    if (first.num_bytes != 0 && !IsControl(first.code_point)) {
      out.append(text.substr(0, num_bytes));
    } else {
      for (const char c : text.substr(0, num_bytes)) {
        out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
      }
    }
    text.remove_prefix(num_bytes);
  }
  return out;
}

}  // namespace kvs
