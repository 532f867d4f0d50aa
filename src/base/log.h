// The only door to spdlog. Call sites: LOG_INFO("KV pool: {} blocks", n). Level and format are set
// once by InitLog; before that messages go to standard error as text.
//
// Control characters and bytes that are not UTF-8 are escaped and long messages are cut, so that no
// client can forge a line, break a JSON line or flood the log.
#pragma once

#include <fmt/format.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "kvserve/options.h"

namespace kvs {

inline constexpr size_t kMaxLogMessageBytes = 8192;

enum class LogLevel : uint8_t { kTrace, kDebug, kInfo, kWarning, kError };

// Text on a terminal; JSON lines, one object with time, level and message, otherwise. Thread-safe
// logging starts here; called once from main.
void InitLog(const LogOptions& options);
bool LogEnabled(LogLevel level);
void LogMessage(LogLevel level, std::string_view message);
// Replaces each byte of a control character (C0 but the tab, DEL, C1, U+2028, U+2029) and each byte
// that is not part of valid UTF-8 by \xNN. The result is valid UTF-8.
std::string EscapeControl(std::string_view text);

template <class... Args>
void Log(LogLevel level, fmt::format_string<Args...> format, Args&&... args) {
  if (LogEnabled(level)) LogMessage(level, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace kvs

#define LOG_DEBUG(...) ::kvs::Log(::kvs::LogLevel::kDebug, __VA_ARGS__)
#define LOG_INFO(...) ::kvs::Log(::kvs::LogLevel::kInfo, __VA_ARGS__)
#define LOG_WARNING(...) ::kvs::Log(::kvs::LogLevel::kWarning, __VA_ARGS__)
#define LOG_ERROR(...) ::kvs::Log(::kvs::LogLevel::kError, __VA_ARGS__)
