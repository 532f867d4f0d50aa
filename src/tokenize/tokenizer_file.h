// Reads tokenizer.json and tokenizer_config.json. The only door to nlohmann/json in this folder.
#pragma once

#include <filesystem>

#include "kvserve/status.h"
#include "tokenize/tokenizer_spec.h"

namespace kvs {

// Reads `model_dir`/tokenizer.json, and the added tokens of `model_dir`/tokenizer_config.json where
// that file exists. kNotFound without a tokenizer.json; kDataError naming the field when the files
// are damaged, contradict themselves or ask for something this tokenizer does not do.
Result<TokenizerSpec> ReadTokenizerFile(const std::filesystem::path& model_dir);

}  // namespace kvs
