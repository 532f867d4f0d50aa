// The files a server's options name: API keys, certificate and key.
#pragma once

#include <string>
#include <vector>

#include "kvserve/options.h"
#include "kvserve/status.h"

namespace kvs {

// One key a line, at most 64 KiB; empty lines and lines that start with '#' are skipped.
// kConfigError names the file and the line, never a key.
Result<std::vector<std::string>> ReadApiKeyFile(const std::string& path);

// Both or none of certificate and key, and readable.
Result<void> CheckTlsFiles(const HttpOptions& options);

}  // namespace kvs
