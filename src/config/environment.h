// KVSERVE_* variables, and the HF_* ones of Hugging Face's tools. The only reader of the
// environment.
#pragma once

#include <string>
#include <vector>

#include "config/flag.h"
#include "kvserve/options.h"
#include "kvserve/status.h"

namespace kvs {

// Every variable of `environment` (as `environ`: null-terminated NAME=VALUE) that starts with
// KVSERVE_. Lists are separated by commas. kConfigError for a name the table does not have.
Result<std::vector<Setting>> ReadEnvironment(const char* const* environment,
                                             const std::vector<FlagSpec>& table);

// What Hugging Face's tools would do in `environment`: HF_HUB_CACHE, else HF_HOME/hub, else
// XDG_CACHE_HOME/huggingface/hub, else ~/.cache/huggingface/hub; the token from HF_TOKEN, else from
// the file HF_TOKEN_PATH, else HF_HOME/token; and the proxies of HTTPS_PROXY, HTTP_PROXY, ALL_PROXY
// and NO_PROXY. kConfigError names the variable at fault, and never
// repeats a token.
Result<HubOptions> ReadHubEnvironment(const char* const* environment);

// Where kvserve keeps what it can make again: XDG_CACHE_HOME/kvserve, else ~/.cache/kvserve. Empty
// when neither XDG_CACHE_HOME nor HOME is an absolute path: nothing is kept then.
std::string CacheDirOf(const char* const* environment);

// Where this machine's state is kept: XDG_STATE_HOME/kvserve, else ~/.local/state/kvserve.
// kConfigError when neither that variable nor HOME is an absolute path.
Result<std::string> ReadStateDir(const char* const* environment);

// This process's variables.
const char* const* ProcessEnvironment();

}  // namespace kvs
