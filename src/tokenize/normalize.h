// Normalization of a text before it is split.
#pragma once

#include <string>
#include <vector>

#include "tokenize/tokenizer_spec.h"

namespace kvs {

// Runs the normalizers in order. REQUIRES: `text` is UTF-8.
std::string Normalize(const std::vector<Normalizer>& normalizers, std::string text);

}  // namespace kvs
